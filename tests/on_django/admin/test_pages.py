"""What the pages show: what is there, bounded and escaped, and that Redis is away when it is."""

from __future__ import annotations

import re
from contextvars import ContextVar
from urllib.parse import quote_plus, unquote

import anyio
import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.utils import quote
from django.db import connections
from django.test import AsyncClient
from django.test.utils import override_settings

from sync_kit import Job, Jobs
from sync_kit._io.blocking import ServerDriver
from sync_kit_django import _registry
from sync_kit_django._pages import looking
from tests.on_django.admin.conftest import ROOT, Mail, text

PAGES = ["", "schedules/", "workers/", "queue/mail/", "queue/mail/?state=failed", "queue/mail/?q=mail"]
ODD = ["a/b", "..", "a b?c#d%41&e", "ü_2F<i>", 'quo"te\\', "."]


def links(response):
    """Where a page points to."""
    return re.findall(r'href="([^"]+)"', text(response))


def test_a_queue_is_shown_with_its_counts_by_state(mail, client):
    mail.failed()
    mail.send(delay=60)
    mail.work()
    mail.send()
    mail.send()
    row = client.get(ROOT).context["rows"][0]
    counts = {state: count for state, _, count, _ in row["counts"]}
    assert counts == {
        **dict.fromkeys(("active", "completed", "cancelled", "parked"), 0),
        "waiting": 2,
        "delayed": 1,
        "failed": 1,
    }
    assert row["oldest"].endswith(" s")
    assert "no worker" in text(client.get(ROOT))


def test_each_state_has_its_jobs(mail, client):
    failed = mail.failed()
    done = mail.send("ann@example.com")
    mail.work()
    delayed = mail.send(delay=60)
    gone = mail.send()
    mail.jobs.blocking.cancel(gone)
    waiting = mail.send()
    of_state = {"failed": failed, "completed": done, "delayed": delayed, "cancelled": gone, "waiting": waiting}
    for state, job in of_state.items():
        shown = [row["id"] for row in client.get(f"{mail.link}?state={state}").context["rows"]]
        assert shown == [job]


@pytest.mark.parametrize("state", ["waiting", "delayed", "active", "completed", "failed", "cancelled", "parked"])
def test_a_state_without_jobs_says_what_that_means(state, mail, client):
    assert str(client.get(f"{mail.link}?state={state}").context["nothing"]).startswith("No job ")


def test_without_a_state_those_that_need_somebody_are_shown(mail, client):
    assert client.get(mail.link).context["state"] == "waiting"
    mail.failed()
    mail.send()
    assert client.get(mail.link).context["state"] == "failed"
    assert client.get(f"{mail.link}?state=nonsense").context["state"] == "failed"


def test_a_search_finds_jobs_by_id_task_and_tag(mail, client):
    other = mail.jobs.task(schema=int, name="resize")(resize)
    ours, theirs = mail.send(tag="user:7"), other.blocking.send(3).id
    found = {
        search: [row["id"] for row in client.get(mail.link, {"state": "waiting", "q": search}).context["rows"]]
        for search in ("SEND", "resize", "user:7", "nobody")
    }
    assert found == {"SEND": [ours], "resize": [theirs], "user:7": [ours], "nobody": []}
    assert client.get(mail.link, {"state": "failed", "q": ours})["Location"] == f"{mail.link}job/{ours}/"


async def resize(n: int) -> None: ...


def test_pages_follow_each_other_until_every_job_was_shown(mail, client):
    sent = [mail.send() for _ in range(2 * looking.PAGE + 3)]
    shown, page = [], f"{mail.link}?state=waiting"
    while page:
        context = client.get(page).context
        shown += [row["id"] for row in context["rows"]]
        page = context["more"]
    assert shown == sent


def test_a_search_among_many_jobs_ends_and_can_go_on(mail, client, monkeypatch):
    monkeypatch.setattr(looking, "TURNS", 1)
    mail.send_email.blocking.send_many([{"to": "a"}] * 120)
    last = mail.send(tag="needle")
    context = client.get(mail.link, {"state": "waiting", "q": "needle"}).context
    assert (context["rows"], bool(context["more"])) == ([], True)
    for _ in range(4):  # in several places of Redis jobs may wait
        if not context["rows"]:
            context = client.get(context["more"]).context
    assert [row["id"] for row in context["rows"]] == [last]


def test_the_cursor_of_another_list_leads_to_the_first_page(mail, client):
    job = mail.send()
    response = client.get(mail.link, {"state": "waiting", "cursor": "nonsense"}, follow=True)
    assert [row["id"] for row in response.context["rows"]] == [job]


def test_a_job_is_shown_with_all_that_is_known_of_it_and_without_secrets(mail, client):
    tenant = ContextVar("tenant", default="acme & sons")
    mail.jobs.carry(tenant)
    tenant.set("acme & sons")
    job = mail.failed("bad@example.com", tag="user:7", key="once", priority=3)
    shown = text(client.get(f"{mail.link}job/{job}/"))
    for said in ("bad@example.com", "user:7", "once", "2 of 2", "acme &amp; sons", "Traceback (most recent call last)"):
        assert said in shown
    assert "to &lt;bad@example.com&gt;" in shown
    assert "hush" not in shown
    assert "**********" in shown


def test_how_far_a_running_job_is_is_shown(mail, client):
    shown = {}

    def look(job_id):
        shown["job"] = text(client.get(f"{mail.link}job/{job_id}/"))
        shown["queue"] = text(client.get(f"{mail.link}?state=active"))
        connections.close_all()  # those of this thread

    async def import_rows(n: int, job: Job) -> None:
        await job.progress(0.25, "row <\ud800>")
        job.log("a quarter")
        with anyio.fail_after(20):
            while (await mail.jobs.get(job.id)).reported is None:
                await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(look, job.id)

    mail.jobs.task(schema=int)(import_rows).blocking.send(1)
    mail.work()
    for said in shown.values():
        assert '<progress max="1" value="0.2500">' in said
        assert "row &lt;\\ud800&gt;" in said
    assert "25%" in shown["job"]
    assert "a quarter" in shown["job"]


def test_a_result_is_shown(mail, client):
    job = mail.send()
    mail.work()
    assert "&quot;sent&quot;: &quot;&lt;yes&gt;&quot;" in text(client.get(f"{mail.link}job/{job}/"))


def test_a_huge_payload_is_cut(mail, client):
    job = mail.send("x" * 120_000)
    shown = text(client.get(f"{mail.link}job/{job}/"))
    assert 99_000 < shown.count("x") < 101_000
    assert "(the first 100000 of " in shown


def test_what_came_from_outside_is_escaped(mail, client):
    nasty = "<script>alert(1)</script>"
    job = mail.failed(f"bad{nasty}", tag=nasty, key=nasty)
    for page in ("?state=failed", f"job/{job}/", f"?state=failed&q={quote_plus(nasty)}", f"job/{quote(nasty)}/"):
        shown = text(client.get(mail.link + page))
        assert nasty not in shown
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
        assert "<b>550</b>" not in shown


def test_texts_that_are_no_unicode_are_shown_all_the_same(mail, client, server):
    broken = Jobs("broken")
    _registry.remember(broken)
    task = broken.task(schema=dict, name="odd")(resize)
    job = task.blocking.send({"text": "here"}).id
    with server.client() as redis:
        body = broken.engine.layout.body
        redis.hset(body, job, redis.hget(body, job).replace(b"here", b"\\ud800"))
    assert "\\ud800" in text(client.get(f"{ROOT}queue/broken/job/{job}/"))


@pytest.mark.parametrize("name", ODD)
def test_a_queue_with_an_odd_name_has_pages(name, queues, client):
    mail = Mail(name)
    mail.send(tag=name)
    (row,) = client.get(ROOT).context["rows"]
    page = client.get(row["link"])
    assert page.context["title"] == name
    (job,) = page.context["rows"]
    assert ".." not in unquote(job["link"])
    assert client.get(job["link"]).context["job"].tag == name
    assert client.post(ROOT, {"action": "pause", "queue": name}).status_code == 302
    assert client.get(row["link"]).context["row"]["paused"]


@pytest.mark.parametrize(
    "page",
    [
        *("queue/other/", "queue/other/job/1/", "queue/mail/job/nothing/", "queue/mail/job/%20/"),
        *("mail/change/", "other_2Fnothing/change/", "_ZZ/change/", "%F0%9F%98%80/change/"),
    ],
)
def test_what_is_not_there_is_not_found(page, mail, client):
    assert client.get(ROOT + page).status_code == 404


def test_without_a_queue_the_page_says_how_to_make_one(queues, client):
    assert "tasks.py" in text(client.get(ROOT))
    assert "runworker" in text(client.get(f"{ROOT}workers/"))
    assert "@jobs.cron" in text(client.get(f"{ROOT}schedules/"))


def test_schedules_are_shown_with_their_next_runs(mail, client):
    mail.send_email.using(cron="0 3 * * *", tz="Europe/Berlin", name="nightly").blocking.send(to="all", token="hush")
    with override_settings(TIME_ZONE="Europe/Berlin"):
        shown = client.get(f"{ROOT}schedules/")
    (row,) = shown.context["rows"]
    assert row["rule"] == "cron 0 3 * * * Europe/Berlin"
    assert len(row["slots"]) == 3
    assert text(shown).count(" 03:00:00</span>") == 3
    assert "hush" not in text(shown)


def test_a_schedule_that_cannot_be_read_does_not_take_the_page_along(mail, client, server):
    for name in ("good", "bad", "worse"):
        mail.send_email.using(interval=60, name=name).blocking.send(to="all")
    with server.client() as redis:
        key = mail.jobs.engine.layout.group.key("schedules")
        redis.hset(key, "bad", b"nonsense")
        kind_and_terms = redis.hget(key, "worse").rstrip(b"\n").rpartition(b"\n")[0]
        redis.hset(key, "worse", kind_and_terms + b'\n{"retries": "many"}\n')
    rows = {row["name"]: row.get("unreadable", False) for row in client.get(f"{ROOT}schedules/").context["rows"]}
    assert rows == {"good": False, "bad": True, "worse": True}


def test_times_are_in_the_time_zone_of_the_project(mail, client):
    job = mail.send()
    made = mail.jobs.blocking.get(job).created_at
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        shown = text(client.get(f"{mail.link}job/{job}/"))
    hour = (made.hour + 9) % 24
    assert f" {hour:02}:{made:%M:%S}</span>" in shown
    assert "s ago" in shown


@pytest.mark.parametrize("page", [*PAGES, "queue/mail/job/01a21645-4671-7001-9548-bd067509ea32/"])
def test_while_redis_is_away_a_page_says_so(page, mail, client):
    with override_settings(SYNC_KIT={"URL": "redis://127.0.0.1:1"}):
        response = client.get(ROOT + page)
    assert response.status_code == 503
    assert "127.0.0.1:1" in text(response)
    assert "Traceback" not in text(response)


def test_what_redis_refuses_is_said_too(mail, client, server):
    with server.client() as redis:
        redis.set(mail.jobs.engine.layout.failed, "no sorted set", ex=60)
    response = client.get(ROOT)
    assert response.status_code == 503
    assert "Redis refuses" in text(response)
    assert "Redis is away" not in text(response)


@pytest.mark.parametrize("page", ["queue/mail/", "queue/mail/job/01a21645-4671-7001-9548-bd067509ea32/"])
def test_an_act_while_redis_is_away_says_that_it_may_have_happened(page, mail, client):
    with override_settings(SYNC_KIT={"URL": "redis://127.0.0.1:1"}):
        response = client.post(ROOT + page, {"action": "retry", "job": "01a21645-4671-7001-9548-bd067509ea32"})
    assert response.status_code == 503
    assert "Whether the change was made is not known" in text(response)


def calls(server):
    """How many scripts were run so far."""
    with server.client() as redis:
        told = redis.info("commandstats")
    return sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def test_a_page_costs_few_calls_however_many_jobs_there_are(mail, client, server):
    mail.send_email.blocking.send_many([{"to": "a"}] * 300)
    pages = {"": 3, "queue/mail/?state=waiting": 12, "workers/": 1, "schedules/": 2}
    for page in pages:
        client.get(ROOT + page)  # scripts are sent whole the first time
    cost = {}
    for page in pages:
        before = calls(server)
        client.get(ROOT + page)
        cost[page] = calls(server) - before
    assert all(cost[page] <= most for page, most in pages.items()), cost


def test_ten_queues_are_asked_in_one_round_trip(queues, client, monkeypatch):
    kept = [Jobs(f"queue-{number}") for number in range(10)]
    for jobs in kept:
        _registry.remember(jobs)
    client.get(ROOT)
    trips, send = [], ServerDriver._exchange

    def counted(driver, packed, timeout):
        trips.append(packed)
        return send(driver, packed, timeout)

    monkeypatch.setattr(ServerDriver, "_exchange", counted)
    assert len(client.get(ROOT).context["rows"]) == 10
    assert len(trips) == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_script_and_no_style_that_a_strict_policy_forbids(page, mail, client):
    mail.failed()
    shown = text(client.get(ROOT + page))
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", shown)


def test_pages_are_served_by_async_servers_too(mail, client):
    page = AsyncClient()
    page.cookies = client.cookies
    response = async_to_sync(page.get)(ROOT)
    assert response.status_code == 200
    assert [row["name"] for row in response.context["rows"]] == ["mail"]
