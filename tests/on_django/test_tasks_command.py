"""`manage.py runworker` runs the tasks of django.tasks."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.core.management.color import no_style

from sync_kit import Worker
from sync_kit_django.backend.library import TaskResultStatus
from sync_kit_django.management.banner import banner
from tests.on_django import chores as chores_here
from tests.on_django.working import default_backend

chores: Any = chores_here


@pytest.mark.parametrize("chosen", [[], ["--queue", "tasks.default"]])
def test_runworker_runs_them(server, namespace, chosen):
    result = chores.add.enqueue(1, 2)
    assert runworker(server, namespace, "--drain", *chosen) == 0
    result.refresh()
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 3)


def test_a_queue_that_was_not_chosen_is_left_alone(server, namespace):
    result = chores.add.enqueue(1, 2)
    assert runworker(server, namespace, "--drain", "--queue", "tasks.mail") == 0
    result.refresh()
    assert result.status == TaskResultStatus.READY


def test_its_banner_names_the_tasks_that_this_process_has_seen():
    queues = default_backend().task_queues
    said = banner(queues, Worker(*queues), no_style(), reloads=False)
    assert "tasks.default" in said
    assert "tests.on_django.chores.add, " in said
    assert "tests.on_django.chores.send_mail" in said


def runworker(server: Any, namespace: str, *words: str) -> int:
    told = {"TEST_URL": server.url, "TEST_NAMESPACE": namespace}
    told["DJANGO_SETTINGS_MODULE"] = "tests.on_django.project.settings"
    command = [sys.executable, "-m", "django", "runworker", *words]
    return subprocess.run(command, env={**os.environ, **told}, timeout=50, check=False).returncode
