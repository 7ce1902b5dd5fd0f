"""What is shown of payloads: secrets never, whatever the model's own serializers do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone

import pytest
from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr, computed_field, field_serializer

from sync_kit.jobs.masked import masked
from sync_kit.queue.schema import MASK
from tests.cli.conftest import APP, wait_for

REVEALING = """
from pydantic import SecretStr, field_serializer
class Login(BaseModel):
    user: str
    password: SecretStr

    @field_serializer("password", when_used="json")
    def reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()

@jobs.every(3600, payload=Login(user="ann", password="hush"))
@jobs.task(schema=Login)
async def log_in(login: Login) -> None: ...
"""


class Login(BaseModel):
    user: str
    password: SecretStr

    @field_serializer("password")
    def reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()

    @computed_field
    def url(self) -> str:
        return f"https://{self.user}:{self.password.get_secret_value()}@example.com"


@dataclass
class Held:
    inner: object


class Many(RootModel[list[Login]]):
    pass


LOGIN = Login(user="ann", password=SecretStr("hush"))


@pytest.mark.parametrize(
    "value",
    [
        *(LOGIN, Many([LOGIN]), Held(LOGIN), {"a": [LOGIN]}, (LOGIN,), deque([LOGIN]), SecretStr("hush")),
        *(SecretBytes(b"hush"), Secret("hush"), {SecretStr("hush"): 1}, Held(Held(SecretStr("hush")))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_is_masked_wherever_it_is(value):
    said = json.dumps(masked(value))
    assert "hush" not in said
    assert MASK in said


def test_all_else_is_shown_as_plain_values():
    when = datetime(2026, 1, 2, tzinfo=timezone.utc)
    value = {"when": when, 1: float("nan"), "bytes": b"\xff\x00a", "many": {3}, "held": Held(None), "odd": object}
    told = json.loads(json.dumps(masked(value)))
    assert told["when"] == "2026-01-02T00:00:00Z"
    assert (told["1"], told["bytes"], told["many"], told["held"]) == ("NaN", "\\xff\x00a", [3], {"inner": None})


def output(app, script):
    """What a script of the app prints."""
    words = [sys.executable, script]
    return subprocess.run(
        words, cwd=app.folder, env=app.environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def test_a_serializer_of_the_model_does_not_reveal_what_is_secret(app, tasks):
    app.write("revealing.py", APP + REVEALING)
    code = "from revealing import log_in\nprint(log_in.blocking.send(user='ann', password='hush').id)\n"
    app.write("send.py", code)
    job = output(app, "send.py")
    shown = [
        app.run("jobs", *words, *form).stdout
        for words in (["show", "revealing:jobs", job], ["list", "revealing:jobs"])
        for form in ([], ["--json"])
    ]
    assert all(job in said and "hush" not in said for said in shown), shown
    assert f'"password": "{MASK}"' in shown[0]


def test_the_payload_of_a_schedule_does_not_reveal_it_either(app):
    app.write("revealing.py", APP + REVEALING)
    with app.start("worker", "revealing:jobs") as worker:
        worker.says("started")
        said = wait_for(
            lambda: "log_in" in (told := app.run("schedules", "list", "revealing:jobs", "--json").stdout) and told,
            "the schedule",
        )
    assert MASK in said
    assert "hush" not in said


def test_a_payload_of_any_type_can_be_shown(app):
    app.write("odd.py", APP + "\n@jobs.task(schema=tuple[int, str])\nasync def pair(pair): ...\n")
    app.write("send.py", "from odd import pair\nprint(pair.blocking.send((1, 'two')).id)\n")
    shown = app.run("jobs", "show", "odd:jobs", output(app, "send.py"))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert '[1, "two"]' in shown.stdout
