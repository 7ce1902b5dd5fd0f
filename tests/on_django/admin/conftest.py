"""Queues, users and clients for the tests of the admin's pages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pydantic import BaseModel, SecretStr

from sync_kit import Job, Jobs
from sync_kit_django import _registry

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = "/admin/sync_kit_django/backgroundjob/"


class Email(BaseModel):
    to: str
    token: SecretStr = SecretStr("")


class Mail:
    """A queue with tasks, and a worker for it."""

    def __init__(self, name: str = "mail") -> None:
        self.jobs = Jobs(name)
        _registry.remember(self.jobs)
        self.send_email = self.jobs.task(schema=Email, name="send_email", retries=1, result_ttl=60)(send_email)
        self.link = f"{ROOT}queue/{name}/"

    def send(self, to: str = "ann@example.com", **options: Any) -> str:
        """Send a job, and tell its id."""
        return str(self.send_email.using(**options).blocking.send(to=to, token=SecretStr("hush")).id)

    def work(self) -> None:
        """Be a worker until nothing is to be done."""
        asyncio.run(self._work())

    def failed(self, to: str = "bad", **options: Any) -> str:
        """A job that has failed."""
        job = self.send(to, **options)
        self.work()
        return job

    def status(self, job: str) -> str | None:
        """Of a job; None if it is unknown."""
        found = self.jobs.blocking.get(job)
        return None if found is None else found.status

    async def _work(self) -> None:
        try:
            with anyio.fail_after(20):
                async with self.jobs.worker(poll_interval=0.05):
                    while (counts := await self.jobs.counts()).waiting or counts.active:
                        await anyio.sleep(0.01)
        finally:
            await self.jobs.kit.aclose()


async def send_email(email: Email, job: Job) -> dict[str, str]:
    job.log(f"to <{email.to}>")
    if "bad" in email.to:
        raise ConnectionError(f"<b>550</b> no mailbox {email.to}")
    return {"sent": "<yes>"}


@pytest.fixture
def queues(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No queue is known but those of the test."""
    monkeypatch.setattr(_registry, "_queues", [])


@pytest.fixture
def mail(queues: None) -> Mail:
    return Mail()


@pytest.fixture
def log_in(tables: None) -> Callable[..., Client]:
    """`log_in("view", "change")` is the client of a member of staff who may do that."""

    def logged_in(*verbs: str, **options: Any) -> Client:
        user = User.objects.create_user(f"staff-{'-'.join(verbs)}", is_staff=True)
        codenames = [f"{verb}_backgroundjob" for verb in verbs]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client(**options)
        client.force_login(user)
        return client

    return logged_in


@pytest.fixture
def client(tables: None) -> Client:
    """Of a superuser."""
    made = Client()
    made.force_login(User.objects.create_superuser("root"))
    return made


def text(response: Any) -> str:
    """The page of a response."""
    return str(response.content.decode())


def told(response: Any) -> list[str]:
    """What the page says after an act."""
    return [str(message) for message in response.context["messages"]]
