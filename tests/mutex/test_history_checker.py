"""The checker of histories finds each planted violation, and the register refuses what it must."""

from __future__ import annotations

import sqlite3

import pytest

from tests.mutex.history import Register, Row, sections, violations


def history(*lines: str) -> list[Row]:
    """Rows from lines such as `enter p1.1 a 5 at 1.0 left 0.8`, plus `asked 0.9` or a `refused` at the end."""
    return [_row(number + 1, *line.split()) for number, line in enumerate(lines)]


def _row(number: int, kind: str, section: str, resource: str, fence: str, *more: str) -> Row:
    said = {name: float(value) for name, value in zip(more[0::2], more[1::2], strict=False)}
    accepted = None if kind in ("lost", "unnoticed") else "refused" not in more
    asked = said.get("asked", said["at"])
    return Row(number, kind, section[:2], section, resource, int(fence), asked, said["at"], said["left"], accepted)


ALLOWED = {
    "one after the other": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "work p1.1 a 5 at 1.1 left 0.7",
        "exit p1.1 a 5 at 1.2 left 0.6",
        "enter p2.1 a 6 at 1.2 left 0.8 asked 0.5",
    ),
    "other resources at the same time": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p2.1 b 6 at 1.1 left 0.8",
        "exit p1.1 a 5 at 1.2 left 0.6",
    ),
    "a dead one is followed when its lease is over": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "work p1.1 a 5 at 1.5 left 0.7",
        "enter p2.1 a 6 at 2.2 left 0.8",
    ),
    "a loss that was noticed early": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "lost p1.1 a 5 at 1.2 left 0.0",
        "enter p2.1 a 6 at 1.3 left 0.8",
    ),
    "a stale holder that is refused": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p2.1 a 6 at 1.9 left 0.8",
        "work p1.1 a 5 at 2.0 left 0.0 refused",
    ),
    "a stale holder whom nobody has followed": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "lost p1.1 a 5 at 1.8 left 0.0",
        "late p1.1 a 5 at 1.9 left 0.0",
        "enter p2.1 a 6 at 1.9 left 0.8",
    ),
    "a holder whose lease was over before it could begin": (
        "enter p2.1 a 6 at 1.9 left 0.8",
        "enter p1.1 a 5 at 2.0 left 0.0 asked 0.5 refused",
    ),
    "granted first, entered last": (
        "enter p2.1 b 6 at 1.1 left 0.8 asked 1.0",
        "enter p1.1 a 5 at 1.2 left 0.8 asked 0.9",
    ),
}
FORBIDDEN = {
    "while .* was inside": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p2.1 a 6 at 1.1 left 0.8",
        "exit p1.1 a 5 at 1.2 left 0.6",
    ),
    "p2.1 .*while p1.1 .* was inside": (  # of a dead one
        "enter p1.1 a 5 at 1.0 left 0.8",
        "work p1.1 a 5 at 1.5 left 0.7",
        "enter p2.1 a 6 at 2.1 left 0.8",
    ),
    "p3.1 .*while p1.1 .* was inside": (  # behind a short one
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p2.1 a 6 at 1.1 left 0.8",
        "exit p2.1 a 6 at 1.2 left 0.7",
        "enter p3.1 a 7 at 1.3 left 0.8",
    ),
    "the fence does not grow": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "exit p1.1 a 5 at 1.2 left 0.6",
        "enter p2.1 a 4 at 1.3 left 0.8 refused",
    ),
    "the fence of the mutex went back": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "exit p1.1 a 5 at 1.2 left 0.6",
        "enter p2.1 b 4 at 1.4 left 0.8 asked 1.3",
    ),
    "share a fence": (
        "enter p1.1 a 5 at 1.0 left 0.8 asked 0.9",
        "enter p2.1 b 5 at 1.1 left 0.8 asked 0.9",
    ),
    "with the stale fence 5: 6 had been there": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p2.1 a 6 at 1.9 left 0.8",
        "exit p1.1 a 5 at 2.0 left 0.0",
    ),
    "refused for no reason": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "exit p1.1 a 5 at 1.2 left 0.6 refused",
    ),
    "without a LockLostError": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p2.1 a 6 at 1.9 left 0.8",
        "work p1.1 a 5 at 2.0 left 0.0 refused",
        "unnoticed p1.1 a 5 at 2.0 left 0.0",
    ),
    "does not begin with its only enter": ("work p1.1 a 5 at 1.0 left 0.8",),
    "p1.1 does not begin": (  # twice
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p1.1 a 5 at 1.1 left 0.8",
    ),
    "changed its fence": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "work p1.1 a 6 at 1.1 left 0.8",
    ),
    "wrote work after its end": (
        "enter p1.1 a 5 at 1.0 left 0.8",
        "exit p1.1 a 5 at 1.1 left 0.7",
        "work p1.1 a 5 at 1.2 left 0.6",
    ),
}


@pytest.mark.parametrize("lines", ALLOWED.values(), ids=ALLOWED)
def test_an_allowed_history_has_no_violations(lines):
    assert violations(history(*lines)) == []


@pytest.mark.parametrize(("words", "lines"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_a_planted_violation_is_found(words, lines):
    with pytest.raises(AssertionError, match=words):
        assert "; ".join(violations(history(*lines))) == ""


def test_a_section_is_over_when_it_left_or_its_lease_was_over():
    told = sections(
        history(
            "enter p1.1 a 5 at 1.0 left 0.8",
            "exit p1.1 a 5 at 1.5 left 0.9",
            "enter p2.1 a 6 at 2.0 left 0.8",
            "work p2.1 a 6 at 2.5 left 0.7",
            "exit p2.1 a 6 at 4.0 left 0.0",
        )
    )
    assert [section.over for section in told] == pytest.approx([1.5, 3.2])


def test_the_register_refuses_a_stale_fence_and_keeps_everything_in_order(tmp_path):
    lines = history(
        "enter p1.1 a 5 at 1.0 left 0.8",
        "enter p2.1 a 6 at 1.9 left 0.8",
        "work p1.1 a 5 at 2.0 left 0.0 refused",
        "unnoticed p1.1 a 5 at 2.1 left 0.0",
        "enter p3.1 b 4 at 2.2 left 0.8",
    )
    with Register(tmp_path / "register") as register, Register(tmp_path / "register") as other:
        for row in lines:
            if row.accepted is None:
                other.note(row)
            else:
                assert other.write(row) is row.accepted
        assert register.rows() == lines
        assert register.rows(3) == lines[3:]
        assert register.last() == 5
        assert register.entered(1) == {"p2", "p3"}


def test_who_is_inside_cannot_write_while_it_is_held(tmp_path, monkeypatch):
    path = tmp_path / "register"
    with Register(path) as register:
        monkeypatch.setattr("tests.mutex.history.time.monotonic", lambda: 1.9)
        for row in history(
            "enter p1.1 a 5 at 1.0 left 0.8",
            "enter p2.1 b 6 at 1.5 left 0.8",
            "exit p2.1 b 6 at 1.6 left 0.7",
            "enter p3.1 c 7 at 1.7 left 0.8",
            "enter p4.1 d 8 at 1.8 left 0.8",
        ):
            register.write(row)
        seen: list[str] = []

        def act(row: Row) -> bool:
            seen.append(row.process)
            with sqlite3.connect(path, timeout=0) as late, pytest.raises(sqlite3.OperationalError, match="locked"):
                late.execute("DELETE FROM history")
            late.close()
            return row.process == "p3"

        held = register.hold(act)
        assert held is not None
        assert (held.process, seen) == ("p3", ["p4", "p3"]), "neither whose lease is over nor who has left"
        assert register.hold(lambda row: False) is None
