"""Who may look, who may act: exactly those with the permission, and nobody by a forged form."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from tests.on_django.admin.conftest import ROOT, text

PAGES = ["", "schedules/", "workers/", "queue/mail/", "queue/mail/job/{job}/", "mail_2F{job}/change/"]


@pytest.mark.parametrize("page", PAGES)
def test_who_is_not_logged_in_is_sent_to_the_login(page, mail, tables):
    response = Client().get(ROOT + page.format(job=mail.failed()))
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/?next=")


@pytest.mark.parametrize("page", PAGES)
def test_staff_without_permission_gets_403_and_sees_nothing(page, mail, log_in):
    client = log_in()
    response = client.get(ROOT + page.format(job=mail.failed()))
    assert response.status_code == 403
    assert "mail" not in text(response)
    assert "Background jobs" not in text(client.get("/admin/"))


@pytest.mark.parametrize("page", PAGES)
def test_staff_with_view_sees_every_page_and_no_button(page, mail, log_in):
    mail.jobs.every(3600, name="hourly")(hourly)
    job = mail.failed()
    client = log_in("view")
    response = client.get(ROOT + page.format(job=job), follow=True)
    assert response.status_code == 200
    assert 'name="action"' not in text(response)
    assert 'type="checkbox"' not in text(response)
    assert "Background jobs" in text(client.get("/admin/"))


async def hourly() -> None: ...


@pytest.mark.parametrize(
    ("page", "form"),
    [
        ("", {"action": "pause", "queue": "mail"}),
        ("queue/mail/", {"action": "retry_failed"}),
        ("queue/mail/", {"action": "retry", "job": "{job}"}),
        ("queue/mail/", {"action": "cancel", "job": "{job}"}),
        ("queue/mail/job/{job}/", {"action": "retry"}),
        ("schedules/", {"action": "run", "queue": "mail", "schedule": "hourly"}),
        ("schedules/", {"action": "pause", "queue": "mail", "schedule": "hourly"}),
    ],
)
def test_it_takes_the_permission_to_change_to_retry_cancel_pause_and_run(page, form, mail, log_in):
    job = mail.failed()
    form = {name: value.format(job=job) for name, value in form.items()}
    page = ROOT + page.format(job=job)
    assert log_in("view", "delete").post(page, form).status_code == 403
    assert mail.status(job) == "failed"
    assert log_in("change").post(page, form).status_code == 302


@pytest.mark.parametrize(
    ("page", "form"),
    [
        ("queue/mail/", {"action": "delete", "job": "{job}"}),
        ("queue/mail/job/{job}/", {"action": "delete"}),
        ("schedules/", {"action": "delete", "queue": "mail", "schedule": "hourly"}),
    ],
)
def test_it_takes_the_permission_to_delete_to_delete(page, form, mail, log_in):
    job = mail.failed()
    form = {name: value.format(job=job) for name, value in form.items()} | {"confirmed": "yes"}
    page = ROOT + page.format(job=job)
    assert log_in("change").post(page, form).status_code == 403
    assert mail.status(job) == "failed"
    assert log_in("view", "delete").post(page, form).status_code == 302


def test_who_may_delete_alone_may_not_look(mail, log_in):
    assert log_in("delete").get(ROOT).status_code == 403


def test_buttons_are_those_that_one_may_press(mail, log_in):
    page = f"{mail.link}job/{mail.failed()}/"
    may_change, may_delete = text(log_in("change").get(page)), text(log_in("view", "delete").get(page))
    assert ('value="retry"' in may_change, 'value="delete"' in may_change) == (True, False)
    assert ('value="retry"' in may_delete, 'value="delete"' in may_delete) == (False, True)


@pytest.mark.parametrize("page", ["", "schedules/", "queue/mail/", "queue/mail/job/{job}/"])
def test_a_forged_form_changes_nothing(page, mail, log_in):
    job = mail.failed()
    client = log_in("change", "delete", enforce_csrf_checks=True)
    for action in ("pause", "retry", "retry_failed", "delete"):
        form = {"action": action, "queue": "mail", "job": job, "confirmed": "yes"}
        assert client.post(ROOT + page.format(job=job), form).status_code == 403
    assert mail.status(job) == "failed"
    assert "paused" not in text(client.get(ROOT))


def test_the_form_of_the_page_itself_is_let_through(mail, log_in):
    job = mail.failed()
    client = log_in("change", enforce_csrf_checks=True)
    token = client.get(mail.link).context["csrf_token"]
    form = {"action": "retry", "job": job, "csrfmiddlewaretoken": str(token)}
    assert client.post(mail.link, form).status_code == 302
    assert mail.status(job) == "waiting"


def test_looking_changes_nothing_whatever_the_address_says(mail, client):
    job = mail.failed()
    client.get(f"{mail.link}?action=delete&confirmed=yes&job={job}")
    client.get(f"{mail.link}job/{job}/?action=delete&confirmed=yes")
    assert mail.status(job) == "failed"


def test_migrate_makes_the_three_permissions():
    made = Permission.objects.filter(content_type__app_label="sync_kit_django")
    assert {each.codename for each in made} == {
        "view_backgroundjob",
        "change_backgroundjob",
        "delete_backgroundjob",
    }
