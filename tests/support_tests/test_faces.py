"""One body for four modes."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.anyio


class Blocking:
    size = 3

    def where(self, word: str) -> tuple[str, int]:
        return word, threading.get_ident()

    @contextmanager
    def lock(self):
        yield threading.get_ident()


class Thing:
    size = 3
    blocking = Blocking()

    async def where(self, word: str) -> tuple[str, int]:
        return word, threading.get_ident()


async def test_a_verb_is_awaited_and_blocking_ones_run_elsewhere(face):
    word, thread = await face(Thing()).where("hello")
    assert word == "hello"
    assert (thread != threading.get_ident()) == face.blocking
    assert face(Thing()).size == 3


async def test_a_blocking_context_manager_is_entered_asynchronously(face):
    if face.blocking:
        async with face(Thing()).lock() as thread:
            assert thread != threading.get_ident()
