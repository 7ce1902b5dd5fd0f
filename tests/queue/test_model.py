"""The engine against a model in plain Python, with time moved by rewriting the stored scores."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sync_kit.queue.engine import MAX_CRASHES
from sync_kit.queue.records import Claim, Outcome
from tests.queue.hands import Hands, expire

PLACES = ("waiting", "delayed", "active", "completed", "failed", "cancelled", "parked")
ENDED = ("completed", "failed", "cancelled")
FRONT = 10**13
KINDS = ("mail", "report")


class Job:
    """A job of the model. `stamp` is its place among those of its priority, 0 for the front."""

    def __init__(self, name: str, kind: str, priority: int) -> None:
        self.name, self.kind, self.priority = name, kind, priority
        self.where = "delayed"
        self.stamp = 0
        self.generation = self.attempts = self.crashes = 0
        self.cancels = False

    @property
    def rank(self) -> tuple[int, int, str]:
        return -self.priority, self.stamp, self.name


class Model(RuleBasedStateMachine):
    """Jobs as plain Python values, moved by the same steps as in Redis."""

    hands: Hands
    client: Any

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.jobs: dict[str, Job] = {}
        self.held: dict[str, Claim] = {}
        self.stale: list[Claim] = []
        self.stamps = self.client.time()[0] * 1000 - 60_000
        self.sent = 0
        self.paused = False

    # how jobs move in the model

    def stamp(self) -> int:
        """A time of its own for everything: in Redis, what happens in one millisecond is sorted by id."""
        self.stamps += 1
        return int(self.stamps)

    def wait(self, job: Job, *, front: bool = False) -> None:
        job.where, job.stamp = "waiting", 0 if front else self.stamp()
        if not front:
            place = "suspects" if job.crashes else "ready"
            self.client.zadd(self.hands.key(place), {job.name: job.stamp - job.priority * FRONT}, xx=True)

    def end(self, job: Job, where: str) -> None:
        job.where, job.cancels = where, False
        if where == "failed":
            self.client.zadd(self.hands.key("failed"), {job.name: self.stamp()}, xx=True)

    def waiting(self, *, suspects: bool) -> list[Job]:
        found = [job for job in self.jobs.values() if job.where == "waiting" and bool(job.crashes) == suspects]
        return sorted(found, key=lambda job: job.rank)

    def some(self, data: st.DataObject, *places: str) -> Job | None:
        names = sorted(job.name for job in self.jobs.values() if job.where in (places or PLACES))
        return self.jobs[data.draw(st.sampled_from(names))] if names else None

    def let_go(self, claim: Claim) -> Job:
        del self.held[claim.id]
        self.stale.append(claim)
        return self.jobs[claim.id]

    def begin(self, claim: Claim) -> None:
        job = self.jobs[claim.id]
        job.where, job.attempts, job.generation = "active", job.attempts + 1, job.generation + 1
        assert (claim.attempts, claim.crashes, claim.generation) == (job.attempts, job.crashes, job.generation)
        assert (claim.kind, claim.body) == (job.kind, job.name.encode())
        self.held[claim.id] = claim

    # the steps

    @rule(delayed=st.booleans(), priority=st.sampled_from([0, 0, 7, -7]), kind=st.sampled_from(KINDS))
    def send(self, delayed: bool, priority: int, kind: str) -> None:
        self.sent += 1
        job = self.jobs[f"j{self.sent:03}"] = Job(f"j{self.sent:03}", kind, priority)
        self.hands.send(job.name, kind=kind, delay=100 if delayed else 0, priority=priority)
        if not delayed:
            self.wait(job)

    @rule(want=st.integers(1, 3), lone=st.booleans())
    def claim(self, want: int, lone: bool) -> None:
        suspects = self.waiting(suspects=True)[: int(lone)]
        expected = (suspects + self.waiting(suspects=False))[: 0 if self.paused else want]
        claims = self.hands.exchange(want=want, lone=lone).claims
        assert [claim.id for claim in claims] == [job.name for job in expected]
        for claim in claims:
            self.begin(claim)

    @rule(data=st.data(), word=st.sampled_from(["done", "fail", "retry", "back", "park"]), later=st.booleans())
    def hand_in(self, data: st.DataObject, word: Any, later: bool) -> None:
        if not self.held:
            return
        claim = self.held[data.draw(st.sampled_from(sorted(self.held)))]
        job = self.let_go(claim)
        delay = 100.0 if later else 0.0
        assert self.hands.exchange(Outcome(claim.id, claim.generation, word, delay, "x")).refused == []
        if job.cancels and word != "done":
            self.end(job, "cancelled")
            return
        job.attempts -= word in ("back", "park")
        if word in ("done", "fail"):
            self.end(job, {"done": "completed", "fail": "failed"}[word])
        elif word == "park":
            job.where = "parked"
        elif later:
            job.where = "delayed"
        else:
            self.wait(job, front=word == "back")

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self.some(data)
        if job is None:
            return
        assert self.hands.run(self.hands.desk.cancel_flow(job.name)) == (job.where not in ENDED)
        if job.where == "active":
            job.cancels = True
        elif job.where not in ENDED:
            self.end(job, "cancelled")

    @rule()
    def renew(self) -> None:
        runs = [(claim.id, claim.generation) for claim in self.held.values()]
        gone = [(claim.id, claim.generation) for claim in self.stale]
        told = {run: "cancelled" for run in runs if self.jobs[run[0]].cancels} | dict.fromkeys(gone, "lost")
        assert self.hands.renew(*runs, *gone) == told

    @rule(kind=st.sampled_from(KINDS))
    def adopt(self, kind: str) -> None:
        parked = {job.name for job in self.jobs.values() if job.where == "parked" and job.kind == kind}
        claims = self.hands.exchange(want=min(len(parked), 1), skip=0, adopts=kind).claims
        assert len(claims) == min(len(parked), 0 if self.paused else 1)
        for claim in claims:
            assert claim.id in parked
            self.begin(claim)

    @rule(data=st.data())
    def no_worker_knows_it(self, data: st.DataObject) -> None:
        job = self.some(data, "parked")
        if job is not None:
            self.client.zadd(self.hands.key("parked"), {job.name: 1})
            self.hands.exchange()
            self.end(job, "failed")

    @rule(data=st.data(), all_of_them=st.booleans())
    def retry(self, data: st.DataObject, all_of_them: bool) -> None:
        failed = [job for job in self.jobs.values() if job.where == "failed"]
        if not all_of_them:
            job = self.some(data)
            failed = [job] if job is not None and job.where in ("failed", "cancelled") else []
            flow = self.hands.desk.retry_flow([job.name if job is not None else "nobody"])
        else:
            flow = self.hands.desk.retry_flow()
        assert self.hands.run(flow) == len(failed)
        for job in failed:
            job.attempts = job.crashes = 0
            self.wait(job)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job = self.some(data)
        if job is None:
            return
        assert self.hands.run(self.hands.desk.delete_flow([job.name])) == (job.where in ENDED)
        if job.where in ENDED:
            del self.jobs[job.name]
            self.stale = [claim for claim in self.stale if claim.id != job.name]

    @rule()
    def purge(self) -> None:
        gone = [job.name for job in self.jobs.values() if job.where in ("waiting", "delayed")]
        assert self.hands.run(self.hands.desk.purge_flow()) == len(gone)
        for name in gone:
            del self.jobs[name]
        self.stale = [claim for claim in self.stale if claim.id not in gone]

    @rule(data=st.data())
    def lose_a_worker(self, data: st.DataObject) -> None:
        if not self.held:
            return
        claim = self.held[data.draw(st.sampled_from(sorted(self.held)))]
        job = self.let_go(claim)
        expire(self.hands, self.client, claim.id)
        (lost,) = self.hands.exchange().lost
        assert (lost.id, lost.kind) == (claim.id, job.kind)
        job.attempts, job.crashes = job.attempts - 1, job.crashes + 1
        if job.cancels:
            self.end(job, "cancelled")
        elif job.crashes == MAX_CRASHES:
            self.end(job, "failed")
        else:
            self.wait(job, front=True)

    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        job = self.some(data, "delayed")
        if job is not None:
            self.client.zadd(self.hands.key("delayed"), {job.name: 1}, xx=True)
            self.hands.exchange()
            self.wait(job)

    @rule(data=st.data())
    def come_late(self, data: st.DataObject) -> None:
        if self.stale:
            claim = data.draw(st.sampled_from(self.stale))
            assert self.hands.exchange(Outcome(claim.id, claim.generation, "done")).refused == [claim.id]

    @rule(pauses=st.booleans())
    def pause(self, pauses: bool) -> None:
        assert self.hands.run(self.hands.desk.pause_flow(pauses)) == (pauses != self.paused)
        self.paused = pauses

    # what is true at any time

    @invariant()
    def every_job_is_in_exactly_one_place(self) -> None:
        entries = self.hands.run(self.hands.desk.look_flow(sorted(self.jobs)))
        assert {entry.id: entry.status for entry in entries} == {job.name: job.where for job in self.jobs.values()}
        counts = self.hands.run(self.hands.desk.count_flow())
        places = [job.where for job in self.jobs.values()]
        assert [getattr(counts, place) for place in PLACES] == [places.count(place) for place in PLACES]
        assert (counts.oldest is None) == (counts.waiting == 0)

    @invariant()
    def nothing_is_kept_of_a_job_that_is_forgotten(self) -> None:
        for key in ("body", "state", "error"):
            assert {name.decode() for name in self.client.hkeys(self.hands.key(key))} <= self.jobs.keys()
        kinds = {kind.decode(): int(count) for kind, count in self.client.hgetall(self.hands.key("kinds")).items()}
        parked = [job.kind for job in self.jobs.values() if job.where == "parked"]
        assert kinds == {kind: parked.count(kind) for kind in set(parked)}

    @invariant()
    def the_list_shows_what_waits_in_the_order_in_which_it_runs(self) -> None:
        listed: list[str] = []
        cursor = None
        while True:
            entries, cursor = self.hands.run(self.hands.desk.page_flow("waiting", 2, cursor))
            listed += [entry.id for entry, _ in entries]
            if cursor is None:
                break
        assert listed == [job.name for job in (*self.waiting(suspects=True), *self.waiting(suspects=False))]


def test_the_engine_does_what_the_model_does(hands, client):
    bound = type("Bound", (Model,), {"hands": hands, "client": client})
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    limits = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=slow)
    run_state_machine_as_test(bound, settings=limits)
