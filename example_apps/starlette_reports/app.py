"""Reports and e-mails: a small web app with a rate limit, an exclusive section and background jobs.

Run it with `nox -s demo -- --serve`, or by hand:

    MAILBOX=/tmp/mail.mbox REDIS_URL=embedded:// uvicorn app:app
"""

from __future__ import annotations

import fcntl
import mailbox
import os
import time
from collections import Counter
from contextlib import closing
from difflib import SequenceMatcher
from email.message import EmailMessage
from pydoc_data.topics import topics

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sync_kit import InvalidPayloadError, Job, Jobs, configure
from sync_kit_starlette import RateLimitMiddleware, client_address, exclusive, job_worker

configure(namespace="reports")
jobs = Jobs("mail")


class Email(BaseModel):
    """One e-mail."""

    to: str
    subject: str
    body: str


class Newsletter(BaseModel):
    """One text for many people."""

    subject: str
    recipients: list[str]


@jobs.task(schema=Email, retries=2)
def send_email(email: Email, job: Job) -> None:
    """Put one e-mail into the mailbox. Plain `def`: it runs on a thread."""
    if "@" not in email.to:
        raise ValueError(f"no such mailbox: {email.to}")
    deliver(job.id, email)


@jobs.task(schema=Newsletter, timeout=300)
def send_newsletter(newsletter: Newsletter, job: Job) -> None:
    """Write to many people, slowly. When the process dies in the middle, the job runs again from the start."""
    for number, recipient in enumerate(newsletter.recipients):
        deliver(f"{job.id}.{number}", Email(to=recipient, subject=newsletter.subject, body="News!"))
        time.sleep(0.2)


def deliver(message_id: str, email: Email) -> None:
    """Append to the mailbox, unless it was done before: jobs run at least once, so they look first."""
    with open(f"{os.environ['MAILBOX']}.locked", "a") as locked:
        # a lock that ends with its process: the lock file of `mailbox` would stay behind whoever is killed
        fcntl.flock(locked, fcntl.LOCK_EX)
        with closing(mailbox.mbox(os.environ["MAILBOX"])) as box:
            if all(message["Message-ID"] != f"<{message_id}@example.com>" for message in box):
                message = EmailMessage()
                message["Message-ID"] = f"<{message_id}@example.com>"
                message["To"], message["Subject"] = email.to, email.subject
                message.set_content(email.body)
                box.add(message)


def user(request: Request) -> str:
    """Who is limited. A real app takes the user from its session, never from a header that anyone can set."""
    return request.headers.get("x-user") or client_address(request)


async def index(request: Request) -> JSONResponse:
    """What there is."""
    return JSONResponse({"hello": user(request), "topics": sorted(topics)})


@exclusive("report:<topic>")
def report(request: Request) -> JSONResponse:
    """Words of one topic of the Python documentation, and the topics that read most like it. Takes a while."""
    topic = request.path_params["topic"]
    if topic not in topics:
        raise HTTPException(404, f"there is no topic {topic!r}")
    words = topics[topic].split()
    alike = {name: likeness(words, text.split()) for name, text in topics.items() if name != topic}
    nearest = sorted(alike, key=lambda name: -alike[name])[:3]
    return JSONResponse({"words": len(words), "common": Counter(words).most_common(5), "alike": nearest})


def likeness(words: list[str], others: list[str]) -> float:
    """How much two texts share, from 0 to 1."""
    return SequenceMatcher(None, words, others, autojunk=False).ratio()


async def post_email(request: Request) -> JSONResponse:
    """Accept an e-mail, or a newsletter when there are recipients; it is sent after the response."""
    data = await request.json()
    receipt = await (send_newsletter if "recipients" in data else send_email).send(**data)
    return JSONResponse({"id": receipt.id}, status_code=202)


async def get_job(request: Request) -> JSONResponse:
    """One job."""
    job = await jobs.get(request.path_params["id"])
    if job is None:
        raise HTTPException(404, "no such job")
    return JSONResponse(shown(job))


async def get_failed(request: Request) -> JSONResponse:
    """The jobs that failed for good."""
    return JSONResponse([shown(job) for job in await jobs.list(status="failed")])


def shown(job: Job) -> dict[str, object]:
    """What the outside sees of a job."""
    return {"id": job.id, "task": job.task, "status": job.status, "attempts": job.attempts, "error": job.error}


async def invalid(request: Request, error: Exception) -> JSONResponse:
    """A payload that the schema refuses."""
    return JSONResponse({"detail": str(error)}, status_code=422)


app = Starlette(
    routes=[
        Route("/", index),
        Route("/reports/{topic}", report),
        Route("/emails", post_email, methods=["POST"]),
        Route("/jobs/failed", get_failed),
        Route("/jobs/{id}", get_job),
    ],
    middleware=[Middleware(RateLimitMiddleware, limit=100, key=user)],
    exception_handlers={InvalidPayloadError: invalid},
    lifespan=job_worker(jobs, concurrency=10),
)
