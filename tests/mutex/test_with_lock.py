"""Work that is run under a lease."""

from __future__ import annotations

import functools

import pytest

from sync_kit import LockError, Mutex
from tests.mutex.tools import locks

pytestmark = pytest.mark.anyio


@pytest.fixture
def verbs(mutex, face):
    return face(mutex)


@pytest.fixture
def work(face):
    """Makes work for the face out of a plain function."""

    def make(plain):
        async def awaited(*given):
            return plain(*given)

        return plain if face.blocking else functools.wraps(plain)(awaited)

    return make


async def test_the_result_of_the_work_is_returned(verbs, work, client):
    assert await verbs.with_lock("a", work(lambda: len(locks(client)))) == 1
    assert await verbs.with_lock_or_raise("a", work(lambda: "result")) == "result"
    assert locks(client) == []


async def test_work_with_a_parameter_gets_the_lease(verbs, work):
    assert await verbs.with_lock("a", work(lambda lease: lease.resource)) == "a"
    assert await verbs.with_lock_or_raise("a", work(lambda lease, again=1: (lease.resource, again))) == ("a", 1)


async def test_work_whose_parameters_have_defaults_is_called_without(verbs, work):
    assert await verbs.with_lock("a", work(lambda name="default": name)) == "default"
    assert await verbs.with_lock("a", functools.partial(work(lambda name: name), "bound")) == "bound"


async def test_busy_is_none_or_an_error(mutex, verbs, work):
    held, ran = await mutex.acquire("a"), []
    assert await verbs.with_lock("a", work(lambda: ran.append(1))) is None
    with pytest.raises(LockError):
        await verbs.with_lock_or_raise("a", work(lambda: ran.append(1)))
    assert ran == []
    assert await held.release()


async def test_a_lock_error_of_the_work_itself_propagates(verbs, work, client):
    inner = LockError("inner", "other", "host:1", 1.0)

    def fail():
        raise inner

    with pytest.raises(LockError) as info:
        await verbs.with_lock("a", work(fail))
    assert info.value is inner
    assert locks(client) == []


async def test_other_errors_of_the_work_propagate_and_the_lease_is_given_back(verbs, work, client):
    with pytest.raises(ZeroDivisionError):
        await verbs.with_lock("a", work(lambda: 1 / 0))
    assert locks(client) == []


async def test_ttl_and_wait_of_a_call_go_before_those_of_the_mutex(kit, face, work, client):
    patient = face(Mutex("reports", ttl=60, wait=60, kit=kit))
    ttls = await patient.with_lock("a", work(lambda: [client.pttl(key) for key in locks(client)]), ttl=5)
    assert 4000 < ttls[0] <= 5000
    assert await patient.acquire("a") is not None
    assert await patient.with_lock("a", work(lambda: "ran"), wait=0) is None
