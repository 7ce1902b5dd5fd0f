"""The engine against a model in plain Python, with time moved by rewriting the stored scores."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sync_kit.queue import Claim, Engine, Keep, Outcome, Turn
from sync_kit.queue.engine import BATCH, MAX_CRASHES

KEEP = Keep()
PLACES = ("waiting", "delayed", "active", "completed", "failed")


class Hands:
    """Calls an engine, and moves its time."""

    def __init__(self, kit: Any, name: str = "test") -> None:
        self.run = kit.thread_driver.run
        self.engine = Engine(kit.namespace, name)
        self._head = f"{kit.namespace}:q:{{{name}}}:"
        self._calls = 0

    def key(self, name: str) -> str:
        return self._head + name

    def send(self, *ids: str, delay: float = 0.0, at: float = 0.0) -> int:
        jobs = [(name, b"{}\n" + name.encode()) for name in ids]
        new: int = self.run(self.engine.send_flow(jobs, delay=delay, at=at))
        return new

    def exchange(self, *outcomes: Outcome, want: int = 0, call: str | None = None, keep: Keep = KEEP) -> Turn:
        self._calls += 1
        flow = self.engine.exchange_flow("w", call or f"call{self._calls}", outcomes, want, keep)
        turn: Turn = self.run(flow)
        return turn

    def status(self, name: str) -> str | None:
        found = self.run(self.engine.look_flow([name]))
        return found[0].status if found else None


@pytest.fixture
def hands(kit):
    return Hands(kit)


@pytest.fixture
def client(server):
    with server.client() as made:
        yield made


def expire(hands: Hands, client: Any, name: str) -> None:
    client.zadd(hands.key("leases"), {name: 1}, xx=True)


def test_a_repeated_send_makes_one_job(hands):
    assert hands.send("a", "b") == 2
    assert hands.send("a", "b") == 0
    assert [claim.id for claim in hands.exchange(want=10).claims] == ["a", "b"]


def test_a_payload_arrives_byte_for_byte_after_any_number_of_retries(hands):
    body = bytes(range(256)) + b'{"list":[],"big":12345678901234567890}'
    hands.run(hands.engine.send_flow([("a", body)]))
    for _ in range(5):
        (claim,) = hands.exchange(want=1).claims
        assert claim.body == body
        hands.exchange(Outcome("a", claim.generation, "retry"))
    assert hands.exchange(want=1).claims[0].body == body


def test_no_more_is_taken_than_wanted(hands):
    hands.send(*"abcde")
    assert [claim.id for claim in hands.exchange(want=2).claims] == ["a", "b"]
    assert hands.exchange(want=0).claims == []


def test_a_repeated_exchange_takes_nothing_again(hands):
    hands.send(*"abcd")
    first = hands.exchange(want=2, call="same")
    again = hands.exchange(want=2, call="same")
    assert again.claims == first.claims
    assert [claim.id for claim in hands.exchange(want=9).claims] == ["c", "d"]


def test_a_repeated_exchange_does_not_refuse_its_own_outcome(hands):
    hands.send("a")
    (claim,) = hands.exchange(want=1).claims
    done = Outcome("a", claim.generation, "done")
    assert hands.exchange(done, call="same").refused == []
    assert hands.exchange(done, call="same").refused == []
    assert hands.status("a") == "completed"


def test_the_outcome_of_an_older_run_is_refused(hands, client):
    hands.send("a")
    (old,) = hands.exchange(want=1).claims
    expire(hands, client, "a")
    (new,) = hands.exchange(want=1).claims
    assert new.generation > old.generation
    assert hands.exchange(Outcome("a", old.generation, "fail", text="late")).refused == ["a"]
    assert hands.status("a") == "active"
    assert hands.exchange(Outcome("a", new.generation, "done")).refused == []
    assert hands.status("a") == "completed"


def test_an_outcome_after_the_lease_was_reclaimed_is_refused(hands, client):
    hands.send("a")
    (old,) = hands.exchange(want=1).claims
    expire(hands, client, "a")
    hands.exchange()
    assert hands.status("a") == "waiting"
    assert hands.exchange(Outcome("a", old.generation, "done")).refused == ["a"]
    assert hands.status("a") == "waiting"


def test_a_lost_worker_is_not_an_attempt_until_it_was_lost_too_often(hands, client):
    hands.send("a")
    for crashes in range(MAX_CRASHES):
        (claim,) = hands.exchange(want=1).claims
        assert (claim.attempts, claim.crashes) == (1, crashes)
        expire(hands, client, "a")
    assert hands.exchange(want=1).claims == []
    (entry,) = hands.run(hands.engine.look_flow(["a"]))
    assert (entry.status, entry.error) == ("failed", "worker died 3 times")


def test_a_reclaimed_job_runs_before_those_that_wait(hands, client):
    hands.send(*"abc")
    hands.exchange(want=1)
    expire(hands, client, "a")
    assert [claim.id for claim in hands.exchange(want=3).claims] == ["a", "b", "c"]


def test_a_job_handed_back_has_lost_nothing(hands):
    hands.send("a", "b")
    (claim,) = hands.exchange(want=1).claims
    hands.exchange(Outcome("a", claim.generation, "back"))
    (again,) = hands.exchange(want=1).claims
    assert (again.id, again.attempts, again.crashes) == ("a", 1, 0)


def test_a_renewal_only_helps_the_run_that_holds_the_lease(hands, client):
    hands.send("a")
    (old,) = hands.exchange(want=1).claims
    before = client.zscore(hands.key("leases"), "a")
    client.zadd(hands.key("leases"), {"a": before - 20_000})
    assert hands.run(hands.engine.renew_flow([("a", old.generation), ("gone", 1)], 1.0)) == [("gone", 1)]
    assert client.zscore(hands.key("leases"), "a") >= before
    expire(hands, client, "a")
    hands.exchange(want=1)
    assert hands.run(hands.engine.renew_flow([("a", old.generation)], 1.0)) == [("a", old.generation)]


def test_delayed_jobs_wait_for_the_servers_clock(hands, client):
    hands.send("soon", delay=50)
    turn = hands.exchange(want=1)
    assert turn.claims == []
    assert turn.next_due == pytest.approx(50, abs=1)
    client.zadd(hands.key("delayed"), {"soon": 1})
    assert [claim.id for claim in hands.exchange(want=1).claims] == ["soon"]


def test_a_time_that_has_passed_is_now(hands):
    hands.send("past", at=1.0)
    assert hands.status("past") == "waiting"


def test_many_due_jobs_are_promoted_in_bounded_steps(hands, client):
    names = [f"j{n:03}" for n in range(2 * BATCH + 50)]
    hands.send(*names, delay=100)
    client.zadd(hands.key("delayed"), dict.fromkeys(names, 1))
    hands.exchange()
    assert client.llen(hands.key("ready")) == BATCH
    assert [claim.id for _ in range(3) for claim in hands.exchange(want=BATCH).claims] == names


def test_ended_jobs_are_trimmed_by_age_and_by_count(hands, client):
    hands.send(*"abcdef")
    claims = hands.exchange(want=6).claims
    hands.exchange(*[Outcome(claim.id, claim.generation, "done") for claim in claims])
    client.zadd(hands.key("done"), {"a": 1, "b": 2})
    hands.exchange()
    assert [hands.status(name) for name in "abc"] == [None, None, "completed"]
    hands.exchange(keep=Keep(completed_count=1))
    assert client.zcard(hands.key("done")) == 1
    assert client.hlen(hands.key("body")) == client.hlen(hands.key("state")) == 1


def test_nothing_is_left_of_a_job_that_is_not_kept(hands, client):
    hands.send("a")
    (claim,) = hands.exchange(want=1).claims
    hands.exchange(Outcome("a", claim.generation, "retry", text="once"))
    (claim,) = hands.exchange(want=1).claims
    hands.exchange(Outcome("a", claim.generation, "done"), keep=Keep(completed=0))
    hands.exchange(keep=Keep(completed=0))
    left = {key.decode().rpartition(":")[2] for key in client.keys("*") if client.ttl(key) < 0}
    assert left <= {"wake"}


def test_a_worker_that_leaves_jobs_behind_passes_the_hint_on(hands, client):
    hands.send("a", "b")
    client.delete(hands.key("wake"))
    hands.exchange(want=1)
    assert client.llen(hands.key("wake")) == 1
    hands.exchange(want=1)
    assert client.llen(hands.key("wake")) == 1


def test_a_delayed_retry_wakes_a_worker_that_would_sleep_longer(hands, client):
    hands.send("a")
    (claim,) = hands.exchange(want=1).claims
    client.delete(hands.key("wake"))
    hands.exchange(Outcome("a", claim.generation, "retry", delay=5))
    assert client.llen(hands.key("wake")) == 1


def test_a_retried_job_has_all_its_retries_before_it(hands, client):
    hands.send("a")
    (old,) = hands.exchange(want=1).claims
    hands.exchange(Outcome("a", old.generation, "fail", text="broken"))
    client.delete(hands.key("wake"))
    assert hands.run(hands.engine.retry_flow(["a", "b"])) == 1
    assert hands.run(hands.engine.retry_flow(["a"])) == 0
    assert client.llen(hands.key("wake")) == 1, "an idle worker is woken"
    (new,) = hands.exchange(want=1).claims
    assert (new.attempts, new.crashes) == (1, 0)
    assert new.generation > old.generation, "a late outcome of the failed run is refused"
    (entry,) = hands.run(hands.engine.look_flow(["a"]))
    assert (entry.finished_ms, entry.error) == (0, "broken")


def test_all_failed_jobs_are_retried_in_bounded_steps_and_once(hands, client):
    names = [f"j{n:03}" for n in range(2 * BATCH + 50)]
    hands.send(*names)
    for _ in range(3):
        claims = hands.exchange(want=BATCH).claims
        hands.exchange(*[Outcome(claim.id, claim.generation, "fail") for claim in claims])
    client.zadd(hands.key("failed"), {"later": 10**15})  # fails while the others are being retried
    assert hands.run(hands.engine.retry_flow()) == len(names)
    assert client.llen(hands.key("ready")) == len(names)
    assert client.zrange(hands.key("failed"), 0, -1) == [b"later"]


def test_nothing_is_taken_from_a_paused_queue(hands, client):
    hands.send("a", "b")
    (claim,) = hands.exchange(want=1).claims
    assert hands.run(hands.engine.pause_flow(True))
    assert not hands.run(hands.engine.pause_flow(True))
    hands.send("late", delay=100)
    client.zadd(hands.key("delayed"), {"late": 1})
    client.delete(hands.key("wake"))
    assert hands.exchange(Outcome("a", claim.generation, "done"), want=5).claims == []
    assert hands.status("a") == "completed", "what runs goes on"
    assert hands.status("late") == "waiting"
    assert client.llen(hands.key("wake")) == 0, "nobody is woken in vain"
    assert hands.run(hands.engine.pause_flow(False))
    assert not hands.run(hands.engine.pause_flow(False))
    assert client.llen(hands.key("wake")) == 1
    assert [claim.id for claim in hands.exchange(want=5).claims] == ["b", "late"]


def test_thousands_are_sent_in_a_trip(hands, client):
    names = [f"j{n:04}" for n in range(4321)]
    assert hands.send(*names) == len(names)
    assert hands.send(*names[:5], "new") == 1
    assert client.lrange(hands.key("ready"), 0, -1) == [name.encode() for name in (*names, "new")]


def test_only_what_has_ended_can_be_deleted(hands, client):
    hands.send(*"abc")
    hands.send("later", delay=100)
    done, failed = hands.exchange(want=2).claims
    hands.exchange(Outcome("a", done.generation, "done"), Outcome("b", failed.generation, "fail", text="x"), want=1)
    for name, deleted in {"a": 1, "b": 1, "c": 0, "later": 0, "unknown": 0}.items():
        assert hands.run(hands.engine.delete_flow([name])) == deleted
    assert [hands.status(name) for name in ("a", "b", "c", "later")] == [None, None, "active", "delayed"]
    assert (client.hlen(hands.key("body")), client.hlen(hands.key("state")), client.hlen(hands.key("error"))) == (
        2,
        1,
        0,
    )


class Model(RuleBasedStateMachine):
    """Jobs as plain Python values, moved by the same steps as in Redis."""

    hands: Hands
    client: Any

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.sent = 0
        self.ready: list[str] = []
        self.where: dict[str, str] = {}
        self.held: dict[str, Claim] = {}
        self.stale: list[Claim] = []
        self.failed: list[str] = []
        self.failures = 0
        self.began = self.client.time()[0] * 1000 - 60_000
        self.attempts: dict[str, int] = {}
        self.crashes: dict[str, int] = {}

    @rule(delayed=st.booleans())
    def send(self, delayed: bool) -> None:
        self.sent += 1
        name = f"j{self.sent}"
        self.hands.send(name, delay=100 if delayed else 0)
        self.where[name], self.attempts[name], self.crashes[name] = "delayed" if delayed else "waiting", 0, 0
        if not delayed:
            self.ready.append(name)

    @rule(want=st.integers(1, 3))
    def claim(self, want: int) -> None:
        expected, self.ready = self.ready[:want], self.ready[want:]
        claims = self.hands.exchange(want=want).claims
        assert [claim.id for claim in claims] == expected
        for claim in claims:
            self.attempts[claim.id] += 1
            assert (claim.attempts, claim.crashes) == (self.attempts[claim.id], self.crashes[claim.id])
            self.held[claim.id], self.where[claim.id] = claim, "active"

    @rule(data=st.data(), word=st.sampled_from(["done", "fail", "retry", "back"]), later=st.booleans())
    def hand_in(self, data: st.DataObject, word: Any, later: bool) -> None:
        if not self.held:
            return
        claim = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        self.stale.append(claim)
        delay = 100.0 if later else 0.0
        assert self.hands.exchange(Outcome(claim.id, claim.generation, word, delay, "x")).refused == []
        if word == "back":
            self.attempts[claim.id] -= 1
        if word in ("done", "fail"):
            self.where[claim.id] = {"done": "completed", "fail": "failed"}[word]
            if word == "fail":
                self.fail(claim.id)
        elif later:
            self.where[claim.id] = "delayed"
        else:
            self.where[claim.id] = "waiting"
            self.ready.insert(0 if word == "back" else len(self.ready), claim.id)

    @rule(data=st.data(), all_of_them=st.booleans())
    def retry(self, data: st.DataObject, all_of_them: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.where))) if self.where else "nobody"
        failed = [each for each in self.failed if all_of_them or each == name]
        flow = self.hands.engine.retry_flow() if all_of_them else self.hands.engine.retry_flow([name])
        assert self.hands.run(flow) == len(failed)
        for each in failed:
            self.where[each], self.attempts[each], self.crashes[each] = "waiting", 0, 0
            self.ready.append(each)
            self.failed.remove(each)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.where))) if self.where else "nobody"
        ended = self.where.get(name) in ("completed", "failed")
        assert self.hands.run(self.hands.engine.delete_flow([name])) == ended
        if ended:
            del self.where[name]
            self.failed = [each for each in self.failed if each != name]

    @rule(data=st.data())
    def lose_a_worker(self, data: st.DataObject) -> None:
        if not self.held:
            return
        claim = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        self.stale.append(claim)
        expire(self.hands, self.client, claim.id)
        self.hands.exchange()
        self.attempts[claim.id] -= 1
        self.crashes[claim.id] += 1
        if self.crashes[claim.id] == MAX_CRASHES:
            self.where[claim.id] = "failed"
            self.fail(claim.id)
        else:
            self.where[claim.id] = "waiting"
            self.ready.insert(0, claim.id)

    def fail(self, name: str) -> None:
        """The oldest failure is retried first: no two of them at the same millisecond."""
        self.failed.append(name)
        self.failures += 1
        self.client.zadd(self.hands.key("failed"), {name: self.began + self.failures})

    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        delayed = sorted(name for name, place in self.where.items() if place == "delayed")
        if not delayed:
            return
        name = data.draw(st.sampled_from(delayed))
        self.client.zadd(self.hands.key("delayed"), {name: 1}, xx=True)
        self.hands.exchange()
        self.where[name] = "waiting"
        self.ready.append(name)

    @rule(data=st.data())
    def come_late(self, data: st.DataObject) -> None:
        if not self.stale:
            return
        claim = data.draw(st.sampled_from(self.stale))
        assert self.hands.exchange(Outcome(claim.id, claim.generation, "done")).refused == [claim.id]

    @invariant()
    def every_job_is_in_exactly_one_place(self) -> None:
        entries = self.hands.run(self.hands.engine.look_flow(sorted(self.where)))
        assert {entry.id: entry.status for entry in entries} == self.where
        counts = self.hands.run(self.hands.engine.count_flow())
        assert dict(zip(PLACES, counts, strict=True)) == {
            place: list(self.where.values()).count(place) for place in PLACES
        }


def test_the_engine_does_what_the_model_does(hands, client):
    bound = type("Bound", (Model,), {"hands": hands, "client": client})
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    limits = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=slow)
    run_state_machine_as_test(bound, settings=limits)
