"""Every example in every Markdown file runs, and every command is one that CI or nox knows."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.markdown import Block, blocks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {"bench/RESULTS.md"}
HIDDEN = re.compile(r"(^|/)(\.|node_modules/|build/|dist/)")
LANGUAGES = {"python", "console", "text", "lua", "toml", "json"}


def markdown() -> list[str]:
    """Every visible Markdown file of the project."""
    names = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.md"))
    return sorted(name for name in names if name not in SKIPPED and not HIDDEN.search(name))


def every(*languages: str) -> list[object]:
    """A parameter for each block in one of the languages."""
    found = ((name, block) for name in markdown() for block in blocks(ROOT / name))
    return [pytest.param(block, id=f"{name}:{block.line}") for name, block in found if block.language in languages]


def speaks_python(name: str) -> bool:
    """Whether there is an example to run in the file."""
    return any(block.language == "python" for block in blocks(ROOT / name))


@pytest.mark.parametrize("name", markdown())
def test_every_block_says_its_language(name):
    unknown = [block for block in blocks(ROOT / name) if block.language not in LANGUAGES]
    assert not unknown


@pytest.mark.parametrize("name", [name for name in markdown() if speaks_python(name)])
def test_the_python_examples_run(name, server, tmp_path):
    environment = {**os.environ, "REDIS_URL": server.url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.markdown", str(ROOT / name)]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("block", every("toml", "json"))
def test_settings_can_be_read(block):
    read = json.loads if block.language == "json" else tomllib.loads
    assert read(block.text) is not None


@pytest.mark.parametrize("block", every("console"))
def test_commands_are_ones_that_are_known_to_work(block):
    for line in block.text.splitlines():
        for command in re.split(r"\s+&&\s+", line.removeprefix("$ ")):
            assert known(shlex.split(command, comments=True)), f"nobody has tried: {command}"


def known(words: list[str]) -> bool:
    """Whether a command is a venv of one's own, pip, a nox session that exists, `.ci/run`, or one of `sync-kit`."""
    while words and re.fullmatch(r"BENCH_\w+=\S+", words[0]):
        words = words[1:]
    program = Path(words[0]).name if words else ""
    if program == "pip":
        return all(installable(word) for word in words[2:] if not word.startswith("-"))
    if program == "nox":
        return sessions_of(words) <= sessions()
    if program == "sync-kit":
        return understood(words[1:])
    if words[:2] == ["python", "manage.py"]:
        return managed(words[2:])
    return not words or words[:3] == ["python3", "-m", "venv"] or words == ["bash", ".ci/run"]


def managed(words: list[str]) -> bool:
    """Whether it is a command of Django, or one of ours with such options."""
    from django.core.management.base import CommandError

    from sync_kit_django.management.commands.runworker import Command

    if not words or words[0] not in ("runworker", "synckit_worker"):
        return words[:1] in (["migrate"], ["check"], ["runserver"], ["test"])
    try:
        Command().create_parser("manage.py", words[0]).parse_args(words[1:])
    except CommandError:
        return False
    return True


def understood(words: list[str]) -> bool:
    """Whether the command line has such a command with such options."""
    from sync_kit.cli.app import app

    command: Any = typer.main.get_command(app)
    try:
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words)
    except Exception:  # click's, which newer releases of typer bring along under another name
        return False
    return True


def installable(word: str) -> bool:
    """Whether it is nox, or this project with extras that it has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    match = re.fullmatch(r"(?:sync-kit|\.)(?:\[(.+)\])?", word)
    return word == "nox" or (match is not None and set(filter(None, (match[1] or "").split(","))) <= set(extras))


def sessions_of(words: list[str]) -> set[str]:
    """The sessions that a nox command names."""
    own = words[: words.index("--")] if "--" in words else words
    return {word for word in own[1:] if not word.startswith("-")}


def sessions() -> set[str]:
    """The sessions of noxfile.py."""
    noxfile = (ROOT / "noxfile.py").read_text()
    plain = re.findall(r"^@nox\.session\ndef (\w+)", noxfile, re.MULTILINE)
    named = re.findall(r'^@nox\.session\(name="([\w.-]+)"', noxfile, re.MULTILINE)
    pythons = {f"tests-{version}" for version in re.findall(r'"(3\.\d+)"', noxfile)}
    return {*plain, *named, *pythons, *(f"tests-django-{version}" for version in re.findall(r'"([56]\.\d)":', noxfile))}


def test_ci_runs_the_two_commands_of_the_readme():
    demo, tests = (readme_command(number) for number in (1, 2))
    assert re.search(r"nox -s demo$", demo)
    assert re.search(r"nox -s tests$", tests)
    script = (ROOT / ".ci/run").read_text()
    assert re.search(r"^readme 1$", script, re.MULTILINE)
    assert re.search(r"^readme 2$", script, re.MULTILINE)


def readme_command(number: int) -> str:
    command = [sys.executable, str(ROOT / ".ci/readme_command"), str(number)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("command", "fine"),
    [
        ("nox -s tests -- --server valkey", True),
        (".venv/bin/nox -s tests-3.10 docs", True),
        ("nox -s havoc", False),
        ("python3 -m venv .venv", True),
        (".venv/bin/pip install -q nox", True),
        ("pip install 'sync-kit[starlette,embedded]'", True),
        ("pip install sync-kit[flask]", False),
        ("make tests", False),
        ("sync-kit worker app.tasks:jobs --reload", True),
        ("sync-kit jobs list app.tasks:jobs --status failed", True),
        ("sync-kit jobs", False),
        ("python manage.py runworker --queue mail --concurrency 4", True),
        ("python manage.py runworker --queues mail --fast", False),
        ("python manage.py collect", False),
        ("sync-kit status app.tasks:jobs --loudly", False),
    ],
)
def test_the_check_of_commands_itself(command, fine):
    assert known(shlex.split(command)) == fine


def test_blocks_know_their_lines(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("Text\n```python\nx = 1\n```\n* item\n  ```json\n  {}\n  ```\n")
    assert list(blocks(file)) == [Block("python", 3, "x = 1\n"), Block("json", 7, "{}\n")]
