"""Wrong settings fail at construction, wrong arguments before anything is sent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sync_kit import ConfigurationError, Mutex

NAN, INF = float("nan"), float("inf")
BAD_TTLS = [0, 0.05, 0.0999, -1, NAN, INF, True, "10", timedelta(0)]
BAD_WAITS = [-1, NAN, INF, True, "2", timedelta(seconds=-1)]


@pytest.mark.parametrize("ttl", BAD_TTLS, ids=repr)
def test_a_ttl_is_at_least_a_tenth_of_a_second(ttl):
    with pytest.raises(ConfigurationError, match="ttl must be"):
        Mutex("reports", ttl=ttl)


@pytest.mark.parametrize("wait", BAD_WAITS, ids=repr)
def test_a_wait_is_not_negative(wait):
    with pytest.raises(ConfigurationError, match="wait must be"):
        Mutex("reports", wait=wait)


@pytest.mark.parametrize("name", ["", " ", None, 7, b"reports"], ids=repr)
def test_a_name_is_required(name):
    with pytest.raises(ConfigurationError, match="name of a mutex"):
        Mutex(name)


def test_an_unknown_option_comes_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="Mutex has no option 'tll': did you mean 'ttl'"):
        Mutex("reports", tll=1)  # type: ignore[arg-type]


def test_durations_may_be_timedeltas():
    mutex = Mutex("reports", ttl=timedelta(seconds=5), wait=timedelta(0))
    assert (mutex.ttl, mutex.wait) == (5.0, 0.0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("resource", "options", "said"),
    [
        *[(resource, {}, "a resource must be") for resource in ("", " ", None, 7, b"a")],
        *[("a", {"ttl": ttl}, "ttl must be") for ttl in BAD_TTLS],
        *[("a", {"wait": wait}, "wait must be") for wait in BAD_WAITS],
    ],
    ids=repr,
)
async def test_a_bad_argument_is_refused_before_anything_is_sent(mutex, face, client, resource, options, said):
    for verb, more in (("acquire", []), ("with_lock", [print]), ("with_lock_or_raise", [print])):
        with pytest.raises(ConfigurationError, match=said):
            await getattr(face(mutex), verb)(resource, *more, **options)
    for lock in (mutex.lock, mutex.blocking.lock):
        with pytest.raises(ConfigurationError, match=said):
            lock(resource, **options)
    assert client.dbsize() == 0


@pytest.mark.anyio
@pytest.mark.parametrize("ttl", BAD_TTLS, ids=repr)
async def test_a_bad_extension_is_refused(mutex, face, ttl):
    lease = face(await face(mutex).acquire("a"))
    with pytest.raises(ConfigurationError, match="ttl must be"):
        await lease.extend(ttl)
    assert await lease.release()


@pytest.mark.anyio
async def test_the_blocking_twin_refuses_to_stop_a_loop_and_names_what_to_await(mutex):
    with pytest.raises(ConfigurationError, match=r"await mutex\.acquire\("):
        mutex.blocking.acquire("a")
    with pytest.raises(ConfigurationError, match=r"async with mutex\.lock\("), mutex.blocking.lock("a"):
        pass
