"""The admin's pages are part of a project: its migrations, its own sites, its files, its languages."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.test.utils import override_settings
from django.urls import path
from django.utils import translation

from sync_kit_django.admin import BackgroundJobAdmin
from sync_kit_django.models import BackgroundJob
from tests.on_django.admin.conftest import text

REPOSITORY = Path(__file__).resolve().parents[3]

own_site = admin.AdminSite(name="staff")
own_site.register(BackgroundJob, BackgroundJobAdmin)
urlpatterns = [path("staff/", own_site.urls), path("admin/", admin.site.urls)]


@pytest.mark.parametrize("field", ["django.db.models.BigAutoField", "django.db.models.AutoField"])
def test_there_is_nothing_to_migrate(field):
    with override_settings(DEFAULT_AUTO_FIELD=field):
        call_command("makemigrations", "sync_kit_django", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize("is_all", [False, True])
def test_the_database_has_no_table_and_nobody_misses_it(is_all):
    out = io.StringIO()
    call_command("dumpdata", "sync_kit_django", all=is_all, stdout=out)
    assert out.getvalue().strip() == "[]"
    assert list(BackgroundJob.objects.all()) == []


@override_settings(ROOT_URLCONF=__name__)
def test_a_site_of_ones_own_has_the_pages(mail, client):
    job = mail.failed()
    root = "/staff/sync_kit_django/backgroundjob/"
    for page in ("", "schedules/", "workers/", "queue/mail/", f"queue/mail/job/{job}/"):
        shown = text(client.get(root + page))
        assert root in shown
        assert "/admin/sync_kit_django/" not in shown
    response = client.post(f"{root}queue/mail/job/{job}/", {"action": "delete", "confirmed": "yes"})
    assert response["Location"] == f"{root}queue/mail/"


def test_files_are_collected(tmp_path):
    with override_settings(STATIC_ROOT=tmp_path):
        call_command("collectstatic", interactive=False, verbosity=0)
    assert (tmp_path / "sync_kit_django" / "admin.css").exists()


def test_pages_of_a_site_in_another_language_are_served(mail, client):
    mail.failed()
    with translation.override("de"), override_settings(LANGUAGE_CODE="de"):
        assert "Suchen" in text(client.get(mail.link))  # Django's own words are translated


WITHOUT_ADMIN = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS={apps}, SYNC_KIT={{"URL": "redis://127.0.0.1:1"}}, SECRET_KEY="for tests")
django.setup()
from django.core.management import call_command
call_command("check")
import sys
assert "sync_kit_django.admin" not in sys.modules
"""


@pytest.mark.parametrize(
    "apps", [["sync_kit_django"], ["django.contrib.contenttypes", "django.contrib.auth", "sync_kit_django"]]
)
def test_a_project_without_the_admin_starts(apps):
    words = [sys.executable, "-c", WITHOUT_ADMIN.format(apps=apps)]
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    ran = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 0, ran.stderr
