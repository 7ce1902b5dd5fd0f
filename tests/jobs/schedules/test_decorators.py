"""What `@jobs.every` and `@jobs.cron` make of a function or a task, and what they refuse."""

from __future__ import annotations

import pytest

from sync_kit import ConfigurationError, InvalidPayloadError, Job, Jobs
from tests.jobs.conftest import Note


def test_a_handler_with_the_job_can_be_called_by_hand(jobs):
    @jobs.cron("@daily")
    def nightly(job: Job) -> str:
        return job.id

    class Some:
        id = "me"

    assert nightly(Some()) == "me"


def test_a_task_without_payload_takes_none(jobs):
    @jobs.every(60)
    async def beat() -> None: ...

    with pytest.raises(InvalidPayloadError):
        beat.schema.make((), {"text": "a"})


def test_several_schedules_of_one_task_need_names(jobs):
    @jobs.every(60, payload=Note(text="a"), name="often")
    @jobs.cron("@daily", payload=Note(text="b"))
    @jobs.task(schema=Note)
    async def write(note: Note) -> None: ...

    assert {*jobs.declared} == {"often", "write"}
    with pytest.raises(ConfigurationError, match="give one of them a name="):
        jobs.every(5, payload=Note(text="c"))(write)


def test_a_module_that_is_loaded_again_declares_the_same(jobs):
    async def write(note: Note) -> None: ...

    for interval in (60, 30):
        jobs.every(interval, payload=Note(text="a"))(jobs.task(schema=Note)(write))
    assert jobs.declared["write"][1].plan.interval == 30


@pytest.mark.parametrize(
    ("rule", "options", "said"),
    [
        (0.01, {}, "interval must be"),
        (60, {"payload": 1}, "payload= is for a task"),
        (60, {"schema": Note}, "has no option 'schema'"),
        (60, {"tz": "UTC"}, "tz"),
        (60, {"overlapp": True}, "did you mean 'overlap'"),
        (60, {"missed": "none"}, "missed must be"),
        (60, {"retries": -1}, "retries must be"),
    ],
)
def test_wrong_options_are_refused(jobs, rule, options, said):
    async def beat() -> None: ...

    with pytest.raises(ConfigurationError, match=said):
        jobs.every(rule, **options)(beat)


def test_a_handler_with_more_parameters_is_refused(jobs):
    with pytest.raises(ConfigurationError, match="takes 2 parameters"):
        jobs.every(60)(lambda one, two: None)


def test_a_task_has_its_options_already(jobs):
    task = jobs.task(schema=Note, name="write")(lambda note: None)
    with pytest.raises(ConfigurationError, match="has its options already: give it retries="):
        jobs.every(60, payload=Note(text="a"), retries=3)(task)
    with pytest.raises(ConfigurationError, match="needs a payload="):
        jobs.every(60)(task)
    with pytest.raises(InvalidPayloadError):
        jobs.every(60, payload={"text": 1})(task)
    with pytest.raises(ConfigurationError, match="schedule it there"):
        Jobs("other", kit=jobs.kit).every(60, payload=Note(text="a"))(task)
