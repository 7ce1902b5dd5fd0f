"""What a running job says of itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import anyio.lowlevel

from sync_kit.errors import ConfigurationError
from sync_kit.options import number

MOST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        fraction: from 0 to 1.
        text: what is being done.
    """

    fraction: float
    text: str = ""

    def write(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))


def read_progress(stored: str) -> Progress | None:
    """What was stored, if anything was."""
    if not stored:
        return None
    said = json.loads(stored)
    return Progress(said["fraction"], said.get("text", ""))  # a newer worker may say more


class Reporter(Protocol):
    """Takes what a running job says of itself. Raises `ConfigurationError` when it does not run any more."""

    def progress(self, progress: Progress, /) -> None: ...
    def line(self, line: str, /) -> None: ...


class Reporting:
    """The verbs of a job that runs here. Who takes what it says is no part of its value."""

    __slots__ = ("_reporter",)

    if TYPE_CHECKING:
        id: str
        _reporter: Reporter

    @property
    def blocking(self) -> BlockingJob:
        """The same verbs for a plain function."""
        return BlockingJob(self)

    async def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the running job is: `job.reported` says it to whoever asks for the job.

        It leaves within 0.2 s, and of several only the newest; what is lost to an outage is logged.

        Args:
            fraction: from 0 to 1.
            text: what is being done, 200 characters at most.

        Raises:
            ConfigurationError: this job does not run here, or not any more.
        """
        self.blocking.progress(fraction, text)
        await anyio.lowlevel.checkpoint()

    def log(self, line: str) -> None:
        """Add a line to the log of the running job: `job.logs` has the last 16 KiB. Leaves when `progress` does.

        Raises:
            ConfigurationError: this job does not run here, or not any more.
        """
        self._taker().line(str(line))

    def _taker(self) -> Reporter:
        reporter: Reporter | None = getattr(self, "_reporter", None)
        if reporter is None:
            raise not_running(self.id)
        return reporter


class BlockingJob:
    """The verbs of a running job, without await."""

    def __init__(self, job: Reporting) -> None:
        self._job = job

    def progress(self, fraction: float, text: str = "") -> None:
        """See `Job.progress`."""
        self._job._taker().progress(Progress(number("fraction", fraction, 0, 1), str(text)[:MOST_TEXT]))

    def log(self, line: str) -> None:
        """See `Job.log`."""
        self._job.log(line)


def not_running(job_id: str) -> ConfigurationError:
    """The error of who speaks for a job that does not run here."""
    return ConfigurationError(
        f"job {job_id} does not run here: progress() and log() are for the job that a handler is given, while it runs"
    )
