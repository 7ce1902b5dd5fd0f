"""What the tests of sync_kit.testing share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from sync_kit import Job, Jobs, Task


class Email(BaseModel):
    """A payload of fields."""

    to: str
    subject: str = "Hi"


@dataclass
class Mail:
    """Jobs whose handlers write down what they were called with, and fail as often as they are told to."""

    jobs: Jobs
    send_email: Task[Any, Email]
    count: Task[[int], int]
    ran: list[Any]
    failures: list[BaseException]
    hooks: list[str]


def mail_of(jobs: Jobs) -> Mail:
    """The tasks of `jobs`: `send_email` is async and wants its job, `count` is plain."""
    ran: list[Any] = []
    failures: list[BaseException] = []
    hooks: list[str] = []

    @jobs.task(
        schema=Email,
        retries=2,
        on_retry=lambda job, error: hooks.append(f"retry {job.attempts} {error}"),
        on_success=lambda job: hooks.append(f"success {job.attempts}"),
        on_failure=lambda job, error: hooks.append(f"failure {job.attempts} {error}"),
    )
    async def send_email(email: Email, job: Job) -> None:
        ran.append((email, job))
        if failures:
            raise failures.pop(0)

    @jobs.task(schema=int)
    def count(number: int) -> None:
        ran.append(number)
        if failures:
            raise failures.pop(0)

    return Mail(jobs, send_email, count, ran, failures, hooks)


@pytest.fixture
def nowhere() -> Mail:
    """Jobs without a server: nothing listens at the url of their kit."""
    from sync_kit import SyncKit

    return mail_of(Jobs("mail", kit=SyncKit("redis://127.0.0.1:1", namespace="nowhere")))


@pytest.fixture
def mail(kit) -> Mail:
    """Jobs on the shared server."""
    return mail_of(Jobs("mail", kit=kit))
