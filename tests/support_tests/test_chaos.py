"""Cancellation at every await."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from tests.support.chaos import cancel_points

pytestmark = pytest.mark.anyio


async def test_every_await_is_cut_once():
    runs: list[list[str]] = []

    async def three_steps() -> None:
        runs.append([])
        for name in ("a", "b", "c"):
            await anyio.sleep(0.02)
            runs[-1].append(name)

    assert await cancel_points(three_steps) == len(runs) - 1 >= 3
    assert runs[0] == []
    assert runs[-1] == ["a", "b", "c"]
    assert [run for run in runs if len(run) == 1]
    assert [run for run in runs if len(run) == 2]


async def test_after_is_called_uncancelled_after_every_run():
    seen = []

    async def look(point: int) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(point)

    cut = await cancel_points(lambda: anyio.sleep(0.02), look)
    assert seen == list(range(cut + 1))


async def test_shielded_clean_up_is_not_cut():
    cleaned = []

    async def guarded() -> None:
        try:
            await anyio.sleep(0.02)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
                cleaned.append(True)

    cut = await cancel_points(guarded)
    assert len(cleaned) == cut + 1


async def test_errors_of_the_action_are_raised():
    async def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await cancel_points(broken)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_edge_cancellation_is_delivered_once():
    finished = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(0.02)
        finally:
            await asyncio.sleep(0.02)
            finished.append(True)

    assert await cancel_points(stubborn, edge=True) == 2
    assert len(finished) == 2, "cut in the body: cleaned up; cut in the clean-up: not; not cut: cleaned up"
