"""A block hands its lease over to another one: there is no moment between them in which it is free."""

from __future__ import annotations

import gc

import anyio
import pytest

from sync_kit import ConfigurationError, LockError, LockLostError, Mutex
from sync_kit.mutex.renewal import _held
from tests.mutex.tools import always, eventually, locks, the_lock, wait_until

pytestmark = pytest.mark.anyio

TTL = 0.6


async def test_the_lease_outlives_the_block_and_ends_with_the_next_one(mutex, client):
    first = mutex.lock("a")
    async with first as lease:
        rest = first.hand_over()
    key = the_lock(client)
    async with rest as again:
        assert again is lease
        assert the_lock(client) == key
    assert locks(client) == []
    assert not lease.lost


async def test_it_is_renewed_between_the_blocks_and_in_the_next_one(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    async with (first := mutex.lock("a")):
        rest = first.hand_over()
    key = the_lock(client)
    await always(lambda: client.exists(key), 1.5 * TTL)
    async with rest:
        await always(lambda: client.exists(key), 1.5 * TTL)


async def test_a_loss_cancels_the_next_block_too(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    async with (first := mutex.lock("a")) as lease:
        rest = first.hand_over()
    with anyio.fail_after(5), pytest.raises(LockLostError) as info:
        async with rest:
            client.delete(the_lock(client))
            await anyio.sleep_forever()
    assert info.value is rest.loss
    assert info.value.fence == lease.fence


async def test_a_loss_between_the_blocks_keeps_the_next_one_from_beginning(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    async with (first := mutex.lock("a")) as lease:
        rest = first.hand_over()
    client.delete(the_lock(client))
    await eventually(lambda: lease.lost, 5)
    with pytest.raises(LockLostError) as info:
        async with rest:
            pytest.fail("it began")
    assert info.value is rest.loss


async def test_a_loss_in_the_first_block_hands_nothing_over(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    first, rests = mutex.lock("a"), []
    with anyio.fail_after(5), pytest.raises(LockLostError):
        async with first:
            rests.append(first.hand_over())
            client.delete(the_lock(client))
            await anyio.sleep_forever()
    with pytest.raises(LockLostError):
        async with rests[0]:
            pytest.fail("it began")


async def test_an_error_in_the_first_block_hands_nothing_over(mutex, client):
    first, rests = mutex.lock("a"), []
    with pytest.raises(ZeroDivisionError):
        async with first:
            rests.append(first.hand_over())
            raise ZeroDivisionError
    assert locks(client) == []
    with pytest.raises(ConfigurationError, match="not handed over"):
        async with rests[0]:
            pytest.fail("it began")


async def test_what_is_thrown_away_before_the_block_ends_was_never_handed_over(mutex, client):
    async with (first := mutex.lock("a")):
        first.hand_over()
        gc.collect()
    assert locks(client) == []


async def test_what_nobody_takes_is_renewed_no_longer_and_released(mutex, client):
    async with (first := mutex.lock("a")) as lease:
        rest = first.hand_over()
    assert lease._grant.token in _held
    del rest
    gc.collect()
    assert lease._grant.token not in _held
    await eventually(lambda: locks(client) == [], 3)


def test_what_nobody_takes_expires_when_its_loop_has_ended(kit, client):
    mutex, rests = Mutex("reports", ttl=TTL, kit=kit), []

    async def hand_over():
        async with (first := mutex.lock("a")):
            rests.append(first.hand_over())

    anyio.run(hand_over)
    assert locks(client)
    rests.clear()
    gc.collect()
    wait_until(lambda: locks(client) == [], 5 * TTL)


async def test_what_is_kept_and_not_used_is_not_renewed_for_ever(kit, client, monkeypatch, caplog):
    """As by an error, whose traceback keeps what was around it until the garbage collector comes."""
    monkeypatch.setattr("sync_kit.mutex.renewal.LONGEST_GAP", 2 * TTL)
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    async with (first := mutex.lock("a")) as lease:
        rest = first.hand_over()
    async with (second := mutex.lock("b")):
        used = second.hand_over()
    async with used as other:
        await eventually(lambda: lease.lost, 10)
        await always(lambda: not other.lost, 2 * TTL)
    assert locks(client) == []
    assert "'a' of mutex 'reports' was handed over and not used for 1 s" in caplog.text
    with pytest.raises(LockLostError):
        await rest.__aenter__()


async def test_a_lease_released_by_hand_in_the_first_block_leaves_nothing_to_the_next(mutex, client):
    async with (first := mutex.lock("a")) as lease:
        await lease.release()
        rest = first.hand_over()
    async with rest:
        assert locks(client) == []
    assert rest.loss is None


async def test_a_guard_is_entered_once(mutex):
    async with (first := mutex.lock("a")):
        rest = first.hand_over()
    async with rest:
        pass
    with pytest.raises(ConfigurationError, match="for one `with` block"):
        async with rest:
            pass


async def test_who_has_handed_over_does_not_wait_for_himself(kit):
    mutex = Mutex("reports", wait=30, kit=kit)
    async with (first := mutex.lock("a")):
        rest = first.hand_over()
    for _ in range(2):
        with anyio.fail_after(1), pytest.raises(LockError, match="this very task"):
            await mutex.acquire("a")
    async with rest:
        with anyio.fail_after(1), pytest.raises(LockError, match="this very task"):
            await mutex.acquire("a")
    async with mutex.lock("a"):
        pass


async def test_what_ends_before_its_block_does_is_free_and_cannot_be_lost(mutex, client):
    async with (guard := mutex.lock("a")) as lease:
        await guard.end()
        assert locks(client) == []
        guard.require()
    assert not lease.lost


async def test_what_had_ended_before_it_was_released_is_a_loss_at_the_end_of_the_block(mutex, client):
    guard, came = mutex.lock("a"), []
    with pytest.raises(LockLostError):
        async with guard:
            client.delete(the_lock(client))
            await guard.end()
            came.append("to the end")
    assert came == ["to the end"]


async def test_require_raises_what_is_known_to_be_lost(kit, client):
    mutex = Mutex("reports", ttl=TTL, kit=kit)
    guard = mutex.lock("a")
    with pytest.raises(LockLostError):
        async with guard as lease:
            guard.require()
            client.delete(the_lock(client))
            with anyio.CancelScope(shield=True):
                await eventually(lambda: lease.lost, 5)
            with pytest.raises(LockLostError):
                guard.require()
