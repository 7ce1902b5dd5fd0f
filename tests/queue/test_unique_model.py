"""Unique keys against a model in plain Python: a key has one live job, and none when that has ended."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sync_kit.queue.engine import MAX_CRASHES
from sync_kit.queue.records import Claim, Item, Outcome
from tests.queue.hands import Hands, expire

KEYS = ("t:a", "t:b")
ENDED = ("completed", "failed", "cancelled")


class Job:
    def __init__(self, name: str, key: str) -> None:
        self.name, self.key = name, key
        self.where = "waiting"
        self.crashes = 0
        self.cancels = False
        self.later = False


class Model(RuleBasedStateMachine):
    """`owner` has a key, `following` waits for it to end."""

    hands: Hands
    client: Any

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.jobs: dict[str, Job] = {}
        self.owner: dict[str, str] = {}
        self.following: dict[str, str] = {}
        self.claims: dict[str, Claim] = {}
        self.stale: list[Claim] = []
        self.sent = 0

    def end(self, job: Job, where: str) -> None:
        job.where = where
        if self.following.get(job.key) == job.name:
            del self.following[job.key]
        elif self.owner.get(job.key) == job.name:
            del self.owner[job.key]
            if job.key in self.following:
                self.owner[job.key] = self.following.pop(job.key)

    def some(self, data: st.DataObject, *places: str) -> Job | None:
        names = sorted(job.name for job in self.jobs.values() if not places or job.where in places)
        return self.jobs[data.draw(st.sampled_from(names))] if names else None

    def given_up(self, claim: Claim) -> Job:
        del self.claims[claim.id]
        self.stale.append(claim)
        return self.jobs[claim.id]

    @initialize(follows=st.booleans())
    def begin(self, follows: bool) -> None:
        """A job runs, and perhaps another one waits for it: what is rare otherwise."""
        self.send(KEYS[0], False, False, False)
        self.claim()
        if follows:
            self.send(KEYS[0], True, False, False)

    @rule(key=st.sampled_from(KEYS), replace=st.booleans(), delayed=st.booleans(), twice=st.booleans())
    def send(self, key: str, replace: bool, delayed: bool, twice: bool) -> None:
        self.sent += 1
        name = f"j{self.sent:03}"
        owner, following = self.owner.get(key), self.following.get(key)
        expected = name
        if owner is None:
            self.owner[key] = name
        elif not replace and (following or not self.jobs[owner].cancels):
            expected = following or owner
        elif self.jobs[owner].where == "active":
            if following:
                self.jobs[following].where = "cancelled"
            self.following[key] = name
        else:
            self.jobs[owner].where = "cancelled"
            self.owner[key] = name
        delay = 100.0 if delayed else 0.0
        for _ in range(1 + twice):
            flow = self.hands.engine.send_unique_flow(
                [Item(name, "task", b"")], [key], delay=delay, at=0.0, priority=0, replace=replace
            )
            assert self.hands.run(flow) == [expected]
        if expected == name:
            self.jobs[name] = Job(name, key)
            self.jobs[name].where = "delayed" if delayed and self.following.get(key) != name else "waiting"
            self.jobs[name].later = delayed

    @rule()
    def claim(self) -> None:
        for claim in self.hands.exchange(want=2).claims:
            job = self.jobs[claim.id]
            assert self.owner[job.key] == job.name, "only the owner of a key may run"
            job.where = "active"
            self.claims[claim.id] = claim

    @rule(data=st.data(), word=st.sampled_from(["done", "fail", "retry", "back", "park"]), later=st.booleans())
    def hand_in(self, data: st.DataObject, word: Any, later: bool) -> None:
        if not self.claims:
            return
        claim = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        job = self.given_up(claim)
        assert self.hands.exchange(Outcome(job.name, claim.generation, word, 100.0 * later, "")).refused == []
        goes_on = word in ("retry", "back", "park")
        if word == "done" or (word == "fail" and not job.cancels):
            self.finish(job, "completed" if word == "done" else "failed")
        elif job.cancels or (goes_on and job.key in self.following):
            self.finish(job, "cancelled")
        else:
            job.where = "parked" if word == "park" else "delayed" if later else "waiting"

    def finish(self, job: Job, where: str) -> None:
        following = self.following.get(job.key)
        self.end(job, where)
        job.cancels = False
        if following:
            self.jobs[following].where = "delayed" if self.jobs[following].later else "waiting"

    @rule(data=st.data())
    def lose_a_worker(self, data: st.DataObject) -> None:
        if not self.claims:
            return
        claim = self.claims[data.draw(st.sampled_from(sorted(self.claims)))]
        job = self.given_up(claim)
        expire(self.hands, self.client, claim.id)
        self.hands.exchange()
        job.crashes += 1
        if job.crashes == MAX_CRASHES and not job.cancels:
            self.finish(job, "failed")
        elif job.cancels or job.key in self.following:
            self.finish(job, "cancelled")
        else:
            job.where = "waiting"

    @rule(data=st.data())
    def come_late(self, data: st.DataObject) -> None:
        if self.stale:
            claim = data.draw(st.sampled_from(self.stale))
            assert self.hands.exchange(Outcome(claim.id, claim.generation, "done")).refused == [claim.id]

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self.some(data)
        if job is None:
            return
        self.hands.run(self.hands.desk.cancel_flow(job.name))
        if job.where == "active":
            job.cancels = True
        elif job.where not in ENDED:
            self.end(job, "cancelled")

    @rule(data=st.data(), all_of_them=st.booleans())
    def retry(self, data: st.DataObject, all_of_them: bool) -> None:
        if all_of_them:
            retried = self.hands.run(self.hands.desk.retry_flow())
            failed = [job for job in self.jobs.values() if job.where == "failed"]
            taken = [job for job in failed if self.hands.status(job.name) == "waiting"]
            free = {job.key for job in failed if job.key not in self.owner}
            assert retried == len(taken) == len(free)
            assert {job.key for job in taken} == free
        else:
            job = self.some(data, "failed", "cancelled")
            if job is None:
                return
            taken = [job] if job.key not in self.owner else []
            assert self.hands.run(self.hands.desk.retry_flow([job.name])) == len(taken)
        for job in taken:
            job.where, job.crashes = "waiting", 0
            self.owner[job.key] = job.name

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job = self.some(data, *ENDED)
        if job is not None:
            assert self.hands.run(self.hands.desk.delete_flow([job.name])) == 1
            del self.jobs[job.name]

    @invariant()
    def every_job_is_where_it_should_be(self) -> None:
        entries = self.hands.run(self.hands.desk.look_flow(sorted(self.jobs)))
        assert {entry.id: entry.status for entry in entries} == {job.name: job.where for job in self.jobs.values()}

    @invariant()
    def a_key_points_to_live_jobs_only(self) -> None:
        stored = {key.decode(): value.decode() for key, value in self.client.hgetall(self.hands.key("unique")).items()}
        expected = {key: " ".join(filter(None, [name, self.following.get(key)])) for key, name in self.owner.items()}
        assert stored == expected
        held = {name.decode() for name in self.client.zrange(self.hands.key("held"), 0, -1)}
        assert held == set(self.following.values())

    @invariant()
    def a_key_has_one_job(self) -> None:
        live = [
            job.key for job in self.jobs.values() if job.where not in ENDED and job.name not in self.following.values()
        ]
        assert len(live) == len(set(live))


def test_a_key_has_one_live_job_whatever_happens(kit, server):
    with server.client() as client:
        model = type("Run", (Model,), {"hands": Hands(kit), "client": client})
        run_state_machine_as_test(
            model,
            settings=settings(
                max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[*HealthCheck]
            ),
        )
