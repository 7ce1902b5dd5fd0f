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
    from collections.abc import Callable, Iterable

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

    def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        self.child.kill()
        self.child.wait(SOON)

    def stop(self) -> None:
        """SIGSTOP; returns when it stands still."""
        self.child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.child.pid, os.WSTOPPED)

    def resume(self) -> None:
        """SIGCONT."""
        self.child.send_signal(signal.SIGCONT)


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
            member.kill()
            self._close(member)
        self.register.__exit__()

    def start(self, url: str, long: str = "-") -> Member:
        """One more process, which reaches Redis at `url`; `long` as in contender.py."""
        name = f"p{next(self._numbers)}"
        log = self._home / f"{name}.log"
        script = str(Path(__file__).with_name("contender.py"))
        command = [sys.executable, script, url, self._namespace, str(self._home / "register"), name, long]
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

    def inside(self, injure: Callable[[Member], object], wanted: Callable[[Row], bool]) -> tuple[Member, Row]:
        """Wait until somebody is inside whose last row is `wanted`, and injure them before they can write another.

        Returns who, and that row.
        """
        hit: list[tuple[Member, Row]] = []

        def act(row: Row) -> bool:
            member = self.members.get(row.process)
            if member is None or not wanted(row):
                return False
            injure(member)
            hit.append((member, row))
            return True

        wait_until(lambda: self.register.hold(act), SOON)
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
