"""What comes back from a job: its result as JSON, or the error that says why there is none."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError, to_json

from sync_kit.errors import JobError
from sync_kit.jobs.header import split
from sync_kit.options import Seconds, name_sent, seconds
from sync_kit.queue.records import TRACEBACK
from sync_kit.queue.waiting import seat_here, seat_in_thread, wait_flow

if TYPE_CHECKING:
    from sync_kit._io.flow import Flow
    from sync_kit.inbox import Seat
    from sync_kit.jobs.jobs import Jobs

_GOOD, _BAD = "=", "!"
FOR_EVER = 10 * 365 * 86400.0


async def wait_for_result(jobs: Jobs, job_id: str, timeout: Seconds | None) -> Any:
    """See `Receipt.result`."""
    home, layout = jobs.kit.home(), jobs.engine.layout
    with seat_here(jobs.kit, layout, name_sent("a job id", job_id), home) as seat:
        return await home.driver.run(_result_flow(jobs, job_id, _until(timeout), seat))


def wait_for_result_blocking(jobs: Jobs, job_id: str, timeout: Seconds | None) -> Any:
    """See `Receipt.result`."""
    jobs.kit.refuse_in_loop("receipt.result(...)")
    with seat_in_thread(jobs.kit, jobs.engine.layout, name_sent("a job id", job_id)) as seat:
        return jobs.kit.thread_driver.run(_result_flow(jobs, job_id, _until(timeout), seat))


def _until(timeout: Seconds | None) -> float:
    return time.monotonic() + (FOR_EVER if timeout is None else seconds("timeout", timeout))


def _result_flow(jobs: Jobs, job_id: str, until: float, seat: Seat) -> Flow[Any]:
    ending = yield from wait_flow(jobs.engine.layout, job_id, until, seat)
    if ending is None:
        raise TimeoutError(f"job {job_id} has not ended in time; it goes on")
    if ending.word == "completed" and ending.result:
        return read_result(job_id, ending.result)
    if ending.word == "completed":
        yield from _refuse_gone(jobs, job_id)
        return None
    message, _, traceback = ending.error.partition(TRACEBACK)
    raise JobError(job_id, ending.word, message, traceback)


def _refuse_gone(jobs: Jobs, job_id: str) -> Flow[None]:
    """Without a result a job has made nothing, or it is not kept any longer: who asks must know which."""
    found = yield from jobs.desk.look_flow([job_id])
    if not found or split(found[0].body)[0].result_ttl:
        raise JobError(job_id, "completed", "its result is not kept any longer: wait earlier, or raise result_ttl=")


def write_result(result: Any, most: int) -> str:
    """A result as it is stored. What cannot be stored says why: the job has ended well all the same."""
    try:
        data = to_json(result).decode()
    except (PydanticSerializationError, ValueError) as error:
        return f"{_BAD}it cannot be written as JSON: {error}"
    if len(data) > most:
        return (
            f"{_BAD}its {len(data)} bytes are more than the {most} of max_payload=: store it elsewhere, return its key"
        )
    return _GOOD + data


def read_result(job_id: str, stored: bytes) -> Any:
    """A result. Raises `JobError` if it could not be stored."""
    text = stored.decode()
    if text.startswith(_BAD):
        raise JobError(job_id, "completed", f"it has made a result that was not stored, {text[1:]}")
    return json.loads(text[1:])


def seen_result(stored: bytes) -> Any:
    """A result for those who look at a job; None if there is none."""
    try:
        return json.loads(stored[1:]) if stored.startswith(_GOOD.encode()) else None
    except ValueError:  # a number of thousands of digits
        return None
