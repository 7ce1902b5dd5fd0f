"""mypy and pyright find the errors that are marked, and no others. `nox -s types` runs this."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = [Path(__file__).with_name(name).relative_to(ROOT) for name in ("sending.py", "sending_django.py")]
MARK = "# expect-error"


def run(*command):
    """What a checker prints on a marked file."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def mypy(cases):
    """What mypy says, by line."""
    said = run("mypy", "--strict", "--hide-error-context", "--no-error-summary", str(cases))
    return {int(line): text for line, text in re.findall(r"^[^:]+:(\d+): error: (.*)", said, re.MULTILINE)}


def pyright(cases):
    """What pyright says, by line; it counts from 0."""
    said = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, str(cases)))
    return {each["range"]["start"]["line"] + 1: each["message"] for each in said["generalDiagnostics"]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_wrong_payloads_are_flagged_and_right_ones_are_not(checker, cases):
    if importlib.util.find_spec(checker.__name__) is None:
        pytest.skip(f"{checker.__name__} is in the dependency group `types`, not in `test`")
    lines = (ROOT / cases).read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith(MARK)}
    found = checker(cases)
    assert {number: lines[number - 1] for number in marked - found.keys()} == {}, "not flagged"
    assert {number: text for number, text in found.items() if number not in marked} == {}, "flagged"
