"""Processes that contend for one mutex, and ways to injure them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutex.history import Register, Row
from tests.mutex.tools import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[2]
SOON = 15.0
"""Seconds after which a process that has not entered a section is stuck: longer than anybody waits in line."""


@dataclass
class Member:
    """One process of a crew."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path

    def injure(self, how: signal.Signals) -> None:
        """Send a signal; returns when it has taken effect."""
        self.child.send_signal(how)
        if how is signal.SIGKILL:
            self.child.wait(SOON)
        elif how is signal.SIGSTOP:
            os.waitid(os.P_PID, self.child.pid, os.WSTOPPED)


class Crew:
    """Starts contenders in `home`, where the register is too. No process is left when the `with` block ends."""

    def __init__(self, home: Path, namespace: str) -> None:
        self._home = home
        self._namespace = namespace
        self._numbers = itertools.count()
        self.members: dict[str, Member] = {}
        self.register = Register(home / "register")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members.values():
            member.injure(signal.SIGKILL)
            self._close(member)
        self.register.__exit__()

    def start(self, url: str) -> Member:
        """One more process, which reaches Redis at `url`."""
        name = f"p{next(self._numbers)}"
        log = self._home / f"{name}.log"
        script = str(Path(__file__).with_name("contender.py"))
        command = [sys.executable, script, url, self._namespace, str(self._home / "register"), name]
        with log.open("wb") as told:
            child = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stderr=told
            )
        self.members[name] = Member(name, child, log)
        return self.members[name]

    def goes_on(self, members: Iterable[Member] | None = None) -> None:
        """Wait until each of these (everybody, if not given) has entered a section since now."""
        since = self.register.last()
        names = {member.name for member in (self.members.values() if members is None else members)}
        wait_until(lambda: names <= self.register.entered(since) or self._nobody_failed(), SOON)

    def others(self, *these: Member) -> list[Member]:
        """Everybody else."""
        return [member for member in self.members.values() if member not in these]

    def inside(self, how: signal.Signals) -> tuple[Member, Row]:
        """Injure somebody who is inside a section just now; returns who, and the last that it wrote."""
        hit: list[tuple[Member, Row]] = []

        def injure(row: Row) -> bool:
            if member := self.members.get(row.process):
                member.injure(how)
                hit.append((member, row))
            return bool(hit)

        wait_until(lambda: self.register.hold(injure), SOON)
        return hit[0]

    def bury(self, member: Member) -> None:
        """Forget one that was killed."""
        self._close(self.members.pop(member.name))

    def end(self) -> None:
        """Let everybody finish what they do; fails if one of them fails or hangs."""
        for member in self.members.values():
            assert member.child.stdin is not None
            member.child.stdin.close()
        for member in self.members.values():
            assert member.child.wait(SOON) == 0, f"{member.name} failed:\n{_end_of(member.log)}"

    def _nobody_failed(self) -> bool:
        for member in self.members.values():
            assert member.child.poll() is None, f"{member.name} failed:\n{_end_of(member.log)}"
        return False

    def _close(self, member: Member) -> None:
        if member.child.stdin is not None:
            member.child.stdin.close()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
