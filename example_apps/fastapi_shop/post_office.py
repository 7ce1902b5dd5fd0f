"""A real SMTP server for people and tests: it keeps what it is given, and delivers nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message

import anyio
from aiosmtpd.smtp import SMTP, Envelope
from anyio.from_thread import start_blocking_portal


class PostOffice:
    """Mails that have arrived, and where to bring more."""

    def __init__(self, tell: Callable[[Message], object]) -> None:
        self.mails: list[Message] = []
        self.address = ""
        self._tell = tell

    async def handle_DATA(self, _server: SMTP, _session: object, envelope: Envelope) -> str:  # noqa: N802
        """One mail, as aiosmtpd hands it over."""
        assert isinstance(envelope.content, bytes), "SMTP without decode_data hands over bytes"
        mail = message_from_bytes(envelope.content)
        self.mails.append(mail)
        self._tell(mail)
        return "250 kept"

    async def serve(self, started: anyio.Event, until: anyio.Event) -> None:
        """Be open until told otherwise, on a port that the system picks."""
        server = await asyncio.get_running_loop().create_server(lambda: SMTP(self), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        started.set()
        await until.wait()
        server.close()


@contextmanager
def open_post_office(tell: Callable[[Message], object] = lambda mail: None) -> Iterator[PostOffice]:
    """A post office on a thread of its own, open for the block."""
    office = PostOffice(tell)
    with start_blocking_portal() as portal:
        started, until = portal.call(anyio.Event), portal.call(anyio.Event)
        open_one = portal.start_task_soon(office.serve, started, until)
        portal.call(started.wait)
        try:
            yield office
        finally:
            portal.call(until.set)
            open_one.result(10)
