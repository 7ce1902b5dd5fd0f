"""What a target may be, and what is said when it is none."""

from __future__ import annotations

import re

import pytest

from sync_kit.cli.targets import load_jobs
from sync_kit.errors import ConfigurationError

RAISING = """class App:
    @property
    def jobs(self):
        raise LookupError("two\\nlines")
app = App()
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["status", "task:jobs"], "no module 'task', seen from .*: did you mean 'tasks'?"),
        (["status", "nowhere:jobs"], "no module 'nowhere', seen from .*: go to the folder of your app, or install it"),
        (["status", "pack.task:jobs"], "no module 'pack.task', seen from .*: did you mean 'pack.tasks'?"),
        (["status", "pakc.tasks:jobs"], "no module 'pakc.tasks', seen from .*: did you mean 'pack.tasks'?"),
        (["status", "tasks"], "'tasks' names no attribute: it has jobs, other, events, handled"),
        (["status", "tasks.py:jobs"], "'tasks.py' is not the name of a module: did you mean 'tasks:jobs'?"),
        (["status", "tasks:jbos"], "module 'tasks' has no 'jbos': did you mean 'tasks:jobs'?"),
        (["status", "tasks:write"], "tasks:write is of type Task, and Jobs or a Queue is wanted here: it has jobs"),
        (["worker", "tasks:events"], r"tasks:events is a Queue without a handler \(name what `queue.processing"),
        (
            ["jobs", "list", "tasks:events"],
            "tasks:events is of type Queue, and Jobs is wanted here: it has jobs, other",
        ),
        (
            ["status", "broken:jobs"],
            r"module 'broken' cannot be imported: ZeroDivisionError: .* \(line 2 of .*broken.py",
        ),
        (["status", "crooked:jobs"], r"module 'crooked' cannot be imported: SyntaxError: .* \(line 1 of .*crooked.py"),
        (["status", "leaving:jobs"], r"module 'leaving' cannot be imported: SystemExit: 0 \(line 2 of .*leaving.py"),
        (["worker", "leaving:jobs", "--check"], "module 'leaving' cannot be imported: SystemExit: 0"),
        (["status", "raising:app.jobs"], r"raising:app.jobs cannot be had: LookupError: two lines \(line 4 of"),
        (["status", "null:jobs"], "module 'null' cannot be imported: (SyntaxError|ValueError): source code"),
        (["status", "hungry:jobs"], "module 'hungry' cannot be imported: ModuleNotFoundError: No module named 'food'"),
    ],
)
def test_a_wrong_target_is_one_line_that_says_what_to_write(app, command, said):
    app.write("pack/__init__.py", "")
    app.write("pack/tasks.py", "")
    app.write("broken.py", "x = 1\n1 / 0\n")
    app.write("crooked.py", "def (\n")
    app.write("leaving.py", "import sys\nsys.exit(0)\n")
    app.write("raising.py", RAISING)
    app.write("null.py", "x = 1\0\n")
    app.write("hungry.py", "import food\n")
    ran = app.run(*command)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert re.match(f"sync-kit: {said}", ran.stderr), ran.stderr


def test_a_target_may_lie_deeper(app):
    app.write("deep.py", "import tasks\nclass Settings:\n    queues = tasks\n")
    ran = app.run("status", "deep:Settings.queues.jobs")
    assert ran.returncode == 0, ran.stderr
    assert "notes" in ran.stdout


@pytest.mark.parametrize("target", ["a\0b:jobs", "json:\0", "json:a\0.b", "\0", "\0.py:jobs", "json.\0:x"])
def test_a_null_byte_is_no_name(target):
    with pytest.raises(ConfigurationError):
        load_jobs(target)
