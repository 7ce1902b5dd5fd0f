"""What the buttons do: to one job, to selected ones, to a queue, to a schedule; and who reads of it later."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry

from tests.on_django.admin.conftest import ROOT, text, told


def test_a_failed_job_is_retried_from_its_page(mail, client):
    job = mail.failed()
    response = client.post(f"{mail.link}job/{job}/", {"action": "retry"}, follow=True)
    assert response.redirect_chain == [(f"{mail.link}job/{job}/", 302)]
    assert told(response) == ["1 job runs again."]
    assert mail.status(job) == "waiting"


def test_selected_jobs_are_retried_and_no_other(mail, client):
    first, second, third = (mail.failed() for _ in range(3))
    response = client.post(f"{mail.link}?state=failed", {"action": "retry", "job": [first, third]}, follow=True)
    assert response.redirect_chain == [(f"{mail.link}?state=failed", 302)]
    assert told(response) == ["2 jobs run again."]
    assert [mail.status(job) for job in (first, second, third)] == ["waiting", "failed", "waiting"]


def test_after_an_act_on_all_of_a_page_nothing_is_selected(mail, client):
    jobs = [mail.send() for _ in range(60)]
    page = client.get(f"{mail.link}?state=waiting&all=1")
    assert text(page).count(" checked") == 50
    chosen = [row["id"] for row in page.context["rows"]]
    after = client.post(f"{mail.link}?state=waiting&all=1", {"action": "cancel", "job": chosen}, follow=True)
    assert {row["id"] for row in after.context["rows"]} == {*jobs} - {*chosen}
    assert " checked" not in text(after)


def test_all_failed_jobs_are_retried(mail, client):
    jobs = [mail.failed() for _ in range(3)]
    assert told(client.post(mail.link, {"action": "retry_failed"}, follow=True)) == ["3 jobs run again."]
    assert {mail.status(job) for job in jobs} == {"waiting"}
    assert told(client.post(mail.link, {"action": "retry_failed"}, follow=True)) == ["No job has failed."]


def test_jobs_that_have_not_ended_are_cancelled(mail, client):
    waiting, delayed = mail.send(), mail.send(delay=60)
    assert told(client.post(mail.link, {"action": "cancel", "job": [waiting, delayed]}, follow=True)) == [
        "2 jobs are cancelled."
    ]
    assert {mail.status(waiting), mail.status(delayed)} == {"cancelled"}


def test_deleting_asks_first(mail, client):
    job, other = mail.failed(), mail.failed()
    asked = client.post(f"{mail.link}?state=failed", {"action": "delete", "job": job})
    assert asked.status_code == 200
    assert asked.context["items"] == [job]
    assert mail.status(job) == "failed"
    answer = {**dict(asked.context["fields"]), "confirmed": "yes"}
    assert told(client.post(f"{mail.link}?state=failed", answer, follow=True)) == ["1 job is deleted."]
    assert [mail.status(job), mail.status(other)] == [None, "failed"]


def test_a_job_that_is_deleted_from_its_page_leads_back_to_the_queue(mail, client):
    job = mail.failed()
    page = f"{mail.link}job/{job}/"
    assert client.post(page, {"action": "delete"}).context["items"] == [job]
    response = client.post(page, {"action": "delete", "confirmed": "yes"})
    assert (response.status_code, response["Location"]) == (302, mail.link)
    assert mail.status(job) is None


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("retry", "Only jobs that failed or were cancelled can be retried."),
        ("delete", "Only jobs that have ended can be deleted: cancel the others first."),
    ],
)
def test_an_act_that_does_not_fit_says_why(action, said, mail, client):
    job = mail.send()
    form = {"action": action, "job": job, "confirmed": "yes"}
    assert told(client.post(mail.link, form, follow=True)) == [said]
    assert mail.status(job) == "waiting"
    assert not LogEntry.objects.exists()


def test_some_of_the_selected_may_have_changed_meanwhile(mail, client):
    job = mail.failed()
    form = {"action": "retry", "job": [job, "01a21645-4671-7001-9548-bd067509ea32"]}
    assert told(client.post(mail.link, form, follow=True)) == [
        "1 job runs again.",
        "Only jobs that failed or were cancelled can be retried.",
    ]


@pytest.mark.parametrize("action", ["retry", "delete", "cancel"])
def test_nothing_selected_changes_nothing(action, mail, client):
    job = mail.failed()
    form = {"action": action, "confirmed": "yes"}
    assert told(client.post(mail.link, form, follow=True)) == ["Select jobs first: nothing was changed."]
    assert mail.status(job) == "failed"


@pytest.mark.parametrize("page", ["", "queue/mail/", "schedules/"])
@pytest.mark.parametrize("action", ["explode", ""])
def test_an_unknown_act_is_refused(page, action, mail, client):
    assert client.post(ROOT + page, {"action": action, "queue": "mail"}).status_code == 400


def test_a_queue_is_paused_and_resumed(mail, client):
    for action, said in (("pause", "Paused."), ("resume", "Resumed.")):
        page = client.post(ROOT, {"action": action, "queue": "mail"}, follow=True)
        assert told(page) == [f"mail: {said}"]
        assert page.context["rows"][0]["paused"] == (action == "pause")
    assert told(client.post(mail.link, {"action": "resume"}, follow=True)) == ["The queue was not paused."]


def test_a_schedule_is_run_paused_resumed_and_deleted(mail, client):
    mail.send_email.using(interval=3600, name="hourly/ü").blocking.send(to="all", token="hush")
    page, form = f"{ROOT}schedules/", {"queue": "mail", "schedule": "hourly/ü"}

    def act(action, **more):
        return client.post(page, {**form, "action": action, **more}, follow=True)

    (said,) = told(act("run"))
    assert said.startswith(f'hourly/ü: Run by hand. <a href="{mail.link}job/')
    assert mail.jobs.blocking.counts().waiting == 1
    assert act("pause").context["rows"][0]["paused"]
    assert told(act("pause")) == ["There is no such schedule any more, or it was paused already."]
    assert not act("resume").context["rows"][0]["paused"]
    assert "comes back" in act("delete").context["hint"]
    assert len(mail.jobs.schedules.blocking.list()) == 1
    assert told(act("delete", confirmed="yes")) == ["hourly/ü: Deleted."]
    assert mail.jobs.schedules.blocking.list() == []
    assert told(act("run")) == ["There is no such schedule any more."]


def test_the_log_of_the_admin_says_who_did_what_and_points_there(mail, client):
    job = mail.failed()
    client.post(mail.link, {"action": "retry", "job": job})
    client.post(mail.link, {"action": "pause"})
    client.post(mail.link, {"action": "cancel", "job": job})
    client.post(mail.link, {"action": "delete", "job": job, "confirmed": "yes"})
    found = [(each.object_id, each.action_flag, each.change_message) for each in LogEntry.objects.order_by("id")]
    assert found == [
        (f"mail/{job}", CHANGE, "Retried."),
        ("mail/", CHANGE, "Paused."),
        (f"mail/{job}", CHANGE, "Cancelled."),
        (f"mail/{job}", DELETION, "Deleted."),
    ]
    pointed = [each.get_admin_url() for each in LogEntry.objects.order_by("id")]
    assert client.get(pointed[0])["Location"] == f"{mail.link}job/{job}/"
    assert client.get(pointed[1])["Location"] == mail.link
    assert f"mail/{job}" in client.get("/admin/").content.decode()
