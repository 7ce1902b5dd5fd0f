"""Everything that works on one server works on a cluster, and through sentinels."""

from __future__ import annotations

import anyio
import pytest

from sync_kit import Jobs, LockError, Mutex, RateLimiter, Semaphore
from sync_kit.mutex.site import owner
from tests.jobs.conftest import status

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["cluster", "sentinels"])
def place(request):
    return request.getfixturevalue(request.param)


async def test_a_limiter_counts_exactly(kit, face):
    limiter = RateLimiter("api", limit=3, window=60, kit=kit)
    users = [f"user:{number}" for number in range(12)]  # some for each node
    for user in users:
        decisions = [await face(limiter).check(user) for _ in range(4)]
        assert [each.allowed for each in decisions] == [True, True, True, False]
        assert [each.remaining for each in decisions] == [2, 1, 0, 0]
    assert (await face(limiter).peek(users[0])).limited
    await face(limiter).reset(users[0])
    assert (await face(limiter).peek(users[0])).remaining == 3
    assert (await face(limiter).peek(users[1])).limited


async def test_every_verb_of_a_limiter_with_several_rules(kit, face):
    limiter = face(RateLimiter("api", "4/minute", "9/hour/burst=6", "5/day/algorithm=fixed-window", kit=kit))
    users = [f"user:{number}" for number in range(12)]
    decisions = await limiter.check_many(dict.fromkeys(users, 2))
    assert [each.remaining for each in decisions] == [2] * 12
    assert [len(each.states) for each in decisions] == [3] * 12
    assert (await limiter.check_or_raise(users[0], cost=2)).remaining == 0
    assert (await limiter.check(users[0])).limited
    for user, decision in zip(users, decisions, strict=True):
        assert await limiter.refund(decision)
        assert not await limiter.refund(decision)
        assert (await limiter.wait(user, cost=2, timeout=1)).allowed


async def test_concurrent_checks_are_exact(kit, face):
    limiter = RateLimiter("api", limit=25, window=60, kit=kit)
    allowed: list[str] = []

    async def ask(user: str) -> None:
        if (await face(limiter).check(user)).allowed:
            allowed.append(user)

    async with anyio.create_task_group() as tasks:
        for number in range(160):
            tasks.start_soon(ask, f"user:{number % 4}")
    assert sorted(allowed) == sorted([f"user:{number}" for number in range(4)] * 25)


async def test_a_mutex_excludes_and_its_fence_grows(kit, face):
    fences = []
    for name in ("reports", "mails", "bills", "users"):  # one slot each
        mutex = Mutex(name, wait=0, kit=kit)
        for _ in range(2):
            async with face(mutex).lock("report:7") as lease:
                fences.append(lease.fence)
                with pytest.raises(LockError) as busy:
                    async with face(mutex).lock("report:7"):
                        pass
                assert busy.value.holder == owner()
        assert fences[-1] > fences[-2]


async def test_work_is_done_under_a_lock(kit, face):
    async def build() -> str:
        return "built"

    mutex = Mutex("reports", wait=0, kit=kit)
    assert await face(mutex).with_lock("report:7", (lambda: "built") if face.blocking else build) == "built"


async def test_a_lease_is_extended_and_released_once(kit, face):
    mutex = Mutex("reports", wait=0, ttl=5, kit=kit)
    lease = await face(mutex).acquire("report:7")
    assert lease is not None
    assert await face(mutex).acquire("report:7") is None
    assert await face(lease).extend(30) is True
    assert lease.expires_in > 20
    assert await face(lease).release() is True
    assert await face(lease).release() is False


@pytest.mark.parametrize("permits", [1, 2])
async def test_waiters_are_called_in_order_of_arrival(kit, face, place, permits):
    """The lines of several names are on several nodes; each is called there."""
    for name in ("reports", "mails", "bills", "users"):
        semaphore = Semaphore(name, permits, wait=20, kit=kit)
        came: list[int] = []
        held = [lease for _ in range(permits) if (lease := await semaphore.acquire("a", ttl=30))]

        async def wait(number, semaphore=semaphore, came=came):
            async with face(semaphore).lock("a"):
                came.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(wait, number)
                await in_line(place, number + 1)
            for lease in held[:1]:
                await lease.release()
        assert came == [0, 1, 2]
        for lease in held[1:]:
            await lease.release()


async def in_line(place, count):
    def found():
        return sum(client.llen(key) for client in place.clients() for key in client.keys("*:line:*")) == count

    with anyio.fail_after(5):
        while not found():
            await anyio.sleep(0.01)


async def test_jobs_run_delayed_ones_when_due_and_failed_ones_again(kit, face):
    jobs, runs = Jobs("notes", kit=kit), []

    @jobs.task(schema=str, retries=1)
    async def note(text: str) -> None:
        runs.append(text)
        if text == "fails once" and runs.count(text) == 1:
            raise ValueError("not yet")

    sent = [await face(note).send("now"), await face(note).send("fails once")]
    sent.append(await face(note.using(delay=0.3)).send("later"))
    assert (await face(jobs).get(sent[2].id)).status == "delayed"
    async with jobs.worker(concurrency=4):
        for receipt in sent:
            await status(jobs, receipt.id, "completed")
    assert sorted(runs) == ["fails once", "fails once", "later", "now"]
    assert (await face(jobs).counts()).completed == 3
