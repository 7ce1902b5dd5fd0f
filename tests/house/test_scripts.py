"""Every Lua file, its header and its call sites agree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from sync_kit._io.scripts import Names, Script
from tests.support.lua import ROOT, complaints, libraries, scripts

if TYPE_CHECKING:
    from pathlib import Path

FILES = [pytest.param(path, id=str(path.relative_to(ROOT))) for path in scripts()]
every_script = pytest.mark.parametrize("path", FILES)


def code_of(path: Path) -> str:
    """The Lua without its comments."""
    return re.sub(r"--.*", "", path.read_text(encoding="utf-8"))


def indexes(body: str, table: str) -> set[int]:
    """The literal indexes of a table, those of `local a, b = unpack(KEYS)` included."""
    unpacked = re.findall(rf"local ([\w,\s]+?)\s*=\s*unpack\({table}\)", body)
    last = max((len(names.split(",")) for names in unpacked), default=0)
    return {int(index) for index in re.findall(rf"\b{table}\[(\d+)\]", body)} | set(range(1, last + 1))


def loops(body: str, table: str) -> set[tuple[int, int]]:
    """First index and step of every `for i = first, #ARGV, step`."""
    found = re.findall(rf"for \w+ = (\d+), #{table}(?:, (\d+))? do", body)
    return {(int(first), int(step or 1)) for first, step in found}


def misuse(body: str, table: str, names: Names) -> str | None:
    """How the use of `table` in `body` contradicts the header, if it does."""
    used, declared = indexes(body, table), set(range(1, len(names.fixed) + 1))
    if missing := declared - used:
        return f"{table}{sorted(missing)} is declared but never used"
    if (extra := used - declared) and not names.group:
        return f"{table}{sorted(extra)} is used but not declared"
    group = (len(names.fixed) + 1, len(names.group))
    if names.group and loops(body, table) - {group}:
        return f"the repeated group of {table} starts at {group[0]} in steps of {group[1]}"
    return None


@pytest.mark.parametrize(
    ("body", "line", "expected"),
    [
        ("KEYS[1] KEYS[2]", "a b", None),
        ("KEYS[1]", "a b", "KEYS[2] is declared but never used"),
        ("KEYS[1] KEYS[2]", "a", "KEYS[2] is used but not declared"),
        ("local a, b = unpack(KEYS)", "a b", None),
        ("local a = unpack(KEYS)", "a b", "KEYS[2] is declared but never used"),
        ("KEYS[1] KEYS[2] KEYS[i]", "a; id ...", None),
        ("KEYS[1] for i = 2, #KEYS, 2 do", "a; id gen ...", None),
        (
            "KEYS[1] for i = 2, #KEYS do",
            "a; id gen ...",
            "the repeated group of KEYS starts at 2 in steps of 2",
        ),
    ],
)
def test_the_check_itself(body, line, expected):
    assert misuse(body, "KEYS", Names(line)) == expected


@every_script
def test_the_header_fits_the_file_name_and_the_body(path):
    script = Script(path.stem, path.read_text(encoding="utf-8"))
    assert misuse(code_of(path), "KEYS", script.keys) is None
    assert misuse(code_of(path), "ARGV", script.args) is None


@every_script
def test_it_is_loaded_by_python_of_its_own_folder(path):
    python = "\n".join(file.read_text(encoding="utf-8") for file in path.parent.glob("*.py"))
    assert re.search(rf'Script\.load\([^,]+, "{path.stem}"\)', python)


@every_script
def test_it_looks_at_no_key_that_it_was_not_given(path):
    body = code_of(path)
    assert not re.search(r"""['"](KEYS|SCAN|RANDOMKEY|FLUSHALL|FLUSHDB)['"]""", body, re.IGNORECASE)
    called = re.findall(r"redis\.p?call\(\s*'[A-Za-z]+'\s*,\s*([^,)]+)", body)
    assert not [key for key in called if ".." in key], "keys are built in Python, never concatenated in Lua"


@every_script
def test_it_leaves_user_payloads_alone(path):
    assert "cjson" not in code_of(path)


def test_libraries_are_used_and_follow_the_same_rules():
    for path in libraries():
        users = [script for script in scripts() if script.parent == path.parent and script.stem != path.stem]
        assert any(f"-- uses: {path.stem}\n" in script.read_text(encoding="utf-8") for script in users), path
        test_it_looks_at_no_key_that_it_was_not_given(path)
        test_it_leaves_user_payloads_alone(path)
        assert not indexes(code_of(path), "KEYS") | indexes(code_of(path), "ARGV")


def test_every_script_compiles_on_this_server(server):
    assert complaints(server) == []
