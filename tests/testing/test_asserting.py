"""`assert_sent` and what its failures say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import ANY

import pytest
from typing_extensions import TypedDict

from sync_kit import ConfigurationError
from sync_kit.testing import assert_not_sent, assert_sent, recorded
from tests.testing.conftest import Email


@dataclass
class Point:
    x: int
    y: int = 0


class Size(TypedDict):
    width: int


@pytest.fixture
def sent(nowhere):
    with recorded() as kept:
        nowhere.send_email.using(delay=60, tag="welcome").blocking.send(to="ann", subject="Welcome")
        nowhere.send_email.blocking.send(to="bob")
        nowhere.count.blocking.send(3)
        yield kept


def test_any_job_of_the_task_will_do_without_a_payload(sent, nowhere):
    assert len(assert_sent(nowhere.send_email)) == 2


def test_fields_that_are_named_must_be_equal_and_others_do_not_matter(sent, nowhere):
    assert [job.data.to for job in assert_sent(nowhere.send_email, subject="Hi")] == ["bob"]
    with pytest.raises(AssertionError):
        assert_sent(nowhere.send_email, to="ann", subject="Hi")


def test_a_whole_payload_must_be_equal(sent, nowhere):
    assert_sent(nowhere.send_email, Email(to="bob"))
    assert_sent(nowhere.count, 3)
    with pytest.raises(AssertionError):
        assert_sent(nowhere.send_email, Email(to="ann"))


def test_what_is_found_tells_its_options(sent, nowhere):
    [job] = assert_sent(nowhere.send_email, to="ann", times=1)
    assert job.options["delay"] == 60


def test_the_number_of_jobs_may_be_asked_for(sent, nowhere):
    assert_sent(nowhere.send_email, times=2)
    with pytest.raises(AssertionError, match="3 times, and was sent 2 times"):
        assert_sent(nowhere.send_email, times=3)
    with pytest.raises(AssertionError, match="1 time, and was sent 2 times"):
        assert_sent(nowhere.send_email, times=1)


def test_what_was_not_sent_is_fine_and_what_was_is_not(sent, nowhere):
    assert_not_sent(nowhere.count, 4)
    with pytest.raises(AssertionError, match="not at all, and was sent 1 time"):
        assert_not_sent(nowhere.send_email, to="bob")


def test_a_sender_with_options_stands_for_its_task(sent, nowhere):
    assert_sent(nowhere.send_email.using(delay=5), to="bob")


def test_what_equals_anything_may_be_asked_for(sent, nowhere):
    assert_sent(nowhere.send_email, to=ANY, subject="Welcome")


def test_a_failure_lists_what_was_sent_and_marks_what_comes_closest(sent, nowhere):
    with pytest.raises(AssertionError) as failed:
        assert_sent(nowhere.send_email, to="bob", subject="Welcome back")
    asked = "mail/send_email with to='bob', subject='Welcome back'"
    assert str(failed.value).splitlines() == [
        f"{asked} was to be sent at least once, and was sent 0 times. Sent were:",
        "     mail/send_email Email(to='ann', subject='Welcome'), delay=60.0, tag='welcome'",
        "  -> mail/send_email Email(to='bob', subject='Hi')   (subject is 'Hi')",
        "     mail/count 3",
    ]


def test_a_failure_marks_what_fits_when_there_is_too_much_of_it(sent, nowhere):
    with pytest.raises(AssertionError) as failed:
        assert_not_sent(nowhere.send_email, subject="Hi")
    assert "== mail/send_email Email(to='bob', subject='Hi')" in str(failed.value)


def test_a_failure_says_when_nothing_was_sent(nowhere):
    with recorded(), pytest.raises(AssertionError, match=r"Nothing was sent\.$"):
        assert_sent(nowhere.count)


def test_a_failure_of_thousands_is_short_and_shows_the_closest(nowhere):
    with recorded():
        nowhere.count.blocking.send_many(range(1000))
        nowhere.send_email.blocking.send(to="ann")
        with pytest.raises(AssertionError) as failed:
            assert_sent(nowhere.send_email, to="bob")
    assert "-> mail/send_email" in str(failed.value)
    assert "and 901 more" in str(failed.value)


def test_a_field_that_the_payload_does_not_have_is_a_slip_of_the_pen(sent, nowhere):
    with pytest.raises(ConfigurationError, match="has no field 'too': did you mean 'to'"):
        assert_not_sent(nowhere.send_email, too="ann")


@pytest.mark.parametrize(
    ("schema", "payload", "fields", "strange"),
    [
        (Point, Point(1, 2), {"y": 2}, "z"),
        (Size, {"width": 3}, {"width": 3}, "wide"),
        (dict[str, int], {"a": 1}, {"a": 1}, ""),
    ],
)
def test_fields_are_those_of_dataclasses_and_dicts_too(nowhere, schema, payload, fields, strange):
    task: Any = nowhere.jobs.task(schema=schema, name="other")(lambda payload: None)
    with recorded():
        task.blocking.send(payload)
        assert_sent(task, **fields)
        assert_not_sent(task, **dict.fromkeys(fields, 99))
        if strange:
            with pytest.raises(ConfigurationError):
                assert_not_sent(task, **{strange: 1})


def test_a_field_of_a_payload_without_fields_is_never_there(nowhere):
    with recorded():
        nowhere.count.blocking.send(1)
        with pytest.raises(AssertionError, match="no to"):
            assert_sent(nowhere.count, to="ann")


def test_a_payload_and_fields_together_are_refused(sent, nowhere):
    with pytest.raises(ConfigurationError, match="not both"):
        assert_sent(nowhere.send_email, Email(to="bob"), to="bob")


def test_asking_while_nothing_is_kept_is_an_error_that_says_how(nowhere):
    with recorded():
        pass
    with pytest.raises(ConfigurationError, match=r"with recorded\(\):"):
        assert_sent(nowhere.count)
