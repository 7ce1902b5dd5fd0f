"""The engine, script by script: each promise of its README, with time moved by rewriting the stored scores."""

from __future__ import annotations

import pytest

from sync_kit.queue.engine import BATCH, MAX_CRASHES, Lane
from sync_kit.queue.records import Item, Keep, Outcome
from tests.queue.hands import expire


def test_a_repeated_send_makes_one_job(hands):
    assert hands.send("a", "b") == 2
    assert hands.send("a", "b") == 0
    assert hands.take(10) == ["a", "b"]


def test_a_payload_arrives_byte_for_byte_after_any_number_of_retries(hands):
    body = bytes(range(256)) + b'{"list":[],"big":12345678901234567890}'
    hands.run(hands.engine.send_flow([Item("a", "task", body)]))
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
    first = hands.exchange(want=2, call=7)
    again = hands.exchange(want=2, call=7)
    assert again.claims == first.claims
    assert [claim.id for claim in hands.exchange(want=9).claims] == ["c", "d"]


def test_a_repeated_exchange_is_not_given_what_another_worker_took_over(hands, client):
    hands.send(*"abc")
    hands.exchange(want=3, call=7)
    for name in "ab":
        expire(hands, client, name)
    taken = {claim.id: claim for claim in hands.exchange(want=2, worker="other").claims}
    assert taken.keys() == {"a"}, "one that lost its worker at a time"
    hands.exchange(Outcome("a", taken["a"].generation, "done"), worker="other")
    assert [claim.id for claim in hands.exchange(want=3, call=7).claims] == ["c"]


def test_an_older_exchange_that_comes_late_does_nothing(hands):
    hands.send(*"abc")
    (claim,) = hands.exchange(want=1, call=5).claims
    assert hands.take(call=6) == ["b"]
    late = hands.exchange(Outcome("a", claim.generation, "done"), want=1, call=5)
    assert (late.claims, late.refused, late.lost) == ([], [], [])
    assert (hands.status("a"), hands.status("c")) == ("active", "waiting")


def test_a_repeated_exchange_says_again_what_it_refused(hands):
    hands.send("a")
    hands.exchange(want=1)
    for _ in range(2):
        assert hands.exchange(Outcome("a", 99, "done"), call=9).refused == ["a"]


def test_what_a_dead_worker_had_is_told_with_what_becomes_of_it(hands, client):
    hands.send("a", kind="mail")
    for _ in range(MAX_CRASHES):
        hands.exchange(want=1)
        expire(hands, client, "a")
        (lost,) = hands.exchange().lost
        told = (lost.outcome, lost.text)
        assert (lost.id, lost.kind) == ("a", "mail")
        assert told == (("fail", "worker died 3 times") if hands.status("a") == "failed" else ("back", "worker died"))
    assert hands.status("a") == "failed"


def test_parked_jobs_are_adopted_by_those_that_know_them_and_by_no_other(hands):
    hands.send(*[f"x{number:03}" for number in range(150)], kind="unknown")
    hands.send("ya", "yb", kind="known")  # behind the others, also when all are parked in one millisecond
    for _ in range(2):
        claims = hands.exchange(want=100).claims
        hands.exchange(*[Outcome(claim.id, claim.generation, "park", 0, "?") for claim in claims])
    assert hands.take(9) == []
    first = hands.exchange(want=9, skip=0, adopts="known\nother")
    assert (first.claims, first.skip) == ([], 100), "a hundred are looked at"
    second = hands.exchange(want=1, skip=first.skip, adopts="known")
    assert [claim.id for claim in second.claims] == ["ya"]
    third = hands.exchange(want=1, skip=second.skip, adopts="known")
    assert ([claim.id for claim in third.claims], third.claims[0].attempts) == (["yb"], 1)
    assert hands.exchange(want=1, skip=third.skip, adopts="known").skip == -1


def test_a_message_is_given_up_after_so_many_deliveries_lost_ones_included(kit, hands, client):
    lane = Lane(hands.layout, "w2", 0, Keep(), max_deliveries=3)
    hands.send("a")
    for call in (1, 3):
        (claim,) = hands.run(hands.engine.exchange_flow(lane, call, [], 1)).claims
        hands.run(hands.engine.exchange_flow(lane, call + 1, [Outcome("a", claim.generation, "retry")], 0))
    hands.run(hands.engine.exchange_flow(lane, 5, [], 1))
    expire(hands, client, "a")
    hands.run(hands.engine.exchange_flow(lane, 6, [], 1))
    assert hands.status("a") == "failed"


def test_a_repeated_exchange_does_not_refuse_its_own_outcome(hands):
    hands.send("a")
    (claim,) = hands.exchange(want=1).claims
    done = Outcome("a", claim.generation, "done")
    assert hands.exchange(done, call=7).refused == []
    assert hands.exchange(done, call=7).refused == []
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
    (entry,) = hands.run(hands.desk.look_flow(["a"]))
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
    assert hands.renew(("a", old.generation), ("gone", 1)) == {("gone", 1): "lost"}
    assert client.zscore(hands.key("leases"), "a") >= before
    expire(hands, client, "a")
    hands.exchange(want=1)
    assert hands.renew(("a", old.generation)) == {("a", old.generation): "lost"}


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
    assert client.zcard(hands.key("ready")) == BATCH
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
    assert hands.run(hands.desk.retry_flow(["a", "b"])) == 1
    assert hands.run(hands.desk.retry_flow(["a"])) == 0
    assert client.llen(hands.key("wake")) == 1, "an idle worker is woken"
    (new,) = hands.exchange(want=1).claims
    assert (new.attempts, new.crashes) == (1, 0)
    assert new.generation > old.generation, "a late outcome of the failed run is refused"
    (entry,) = hands.run(hands.desk.look_flow(["a"]))
    assert (entry.finished_ms, entry.error) == (0, "broken")


def test_all_failed_jobs_are_retried_in_bounded_steps_and_once(hands, client):
    names = [f"j{n:03}" for n in range(2 * BATCH + 50)]
    hands.send(*names)
    for _ in range(3):
        claims = hands.exchange(want=BATCH).claims
        hands.exchange(*[Outcome(claim.id, claim.generation, "fail") for claim in claims])
    client.zadd(hands.key("failed"), {"later": 10**15})  # fails while the others are being retried
    assert hands.run(hands.desk.retry_flow()) == len(names)
    assert client.zcard(hands.key("ready")) == len(names)
    assert client.zrange(hands.key("failed"), 0, -1) == [b"later"]


def test_nothing_is_taken_from_a_paused_queue(hands, client):
    hands.send("a", "b")
    (claim,) = hands.exchange(want=1).claims
    assert hands.run(hands.desk.pause_flow(True))
    assert not hands.run(hands.desk.pause_flow(True))
    hands.send("late", delay=100)
    client.zadd(hands.key("delayed"), {"late": 1})
    client.delete(hands.key("wake"))
    assert hands.exchange(Outcome("a", claim.generation, "done"), want=5).claims == []
    assert hands.status("a") == "completed", "what runs goes on"
    assert hands.status("late") == "waiting"
    assert client.llen(hands.key("wake")) == 0, "nobody is woken in vain"
    assert hands.run(hands.desk.pause_flow(False))
    assert not hands.run(hands.desk.pause_flow(False))
    assert client.llen(hands.key("wake")) == 1
    assert hands.take(5) == ["late", "b"], "those that were due first run first"


def test_thousands_are_sent_in_a_trip(hands, client):
    names = [f"j{n:04}" for n in range(4321)]
    assert hands.send(*names) == len(names)
    assert hands.send(*names[:5], "new") == 1
    assert client.zrange(hands.key("ready"), 0, -1) == [name.encode() for name in (*names, "new")]


def test_only_what_has_ended_can_be_deleted(hands, client):
    hands.send(*"abc")
    hands.send("later", delay=100)
    done, failed = hands.exchange(want=2).claims
    hands.exchange(Outcome("a", done.generation, "done"), Outcome("b", failed.generation, "fail", text="x"), want=1)
    for name, deleted in {"a": 1, "b": 1, "c": 0, "later": 0, "unknown": 0}.items():
        assert hands.run(hands.desk.delete_flow([name])) == deleted
    assert [hands.status(name) for name in ("a", "b", "c", "later")] == [None, None, "active", "delayed"]
    assert (client.hlen(hands.key("body")), client.hlen(hands.key("state")), client.hlen(hands.key("error"))) == (
        2,
        1,
        0,
    )
