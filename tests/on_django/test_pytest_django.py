"""A project whose tests run by pytest-django, or by Django itself, on a database in memory, as its authors run them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
SECRET_KEY = "for tests alone"
INSTALLED_APPS = ["sync_kit_django", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SYNC_KIT = {"URL": "redis://127.0.0.1:1"}
"""
MODELS = """
from django.db import models


class Order(models.Model):
    paid = models.BooleanField(default=False)
"""
TASKS = """
from shop.models import Order
from sync_kit_django import Jobs

jobs = Jobs("shop")


@jobs.task(schema=int)
def pay(order_id):
    order = Order.objects.get(pk=order_id)
    order.paid = True
    order.save()


@jobs.task(schema=int)
async def apay(order_id):
    order = await Order.objects.aget(pk=order_id)
    order.paid = True
    await order.asave()
"""
CASES = """
from django.db import transaction
from django.test import TestCase

from shop.models import Order
from shop.tasks import apay, pay
from sync_kit_django.testing import assert_sent, override_jobs


class PayTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.order = Order.objects.create()

    def is_paid(self):
        self.order.refresh_from_db()
        return self.order.paid

    @override_jobs("inline")
    def test_plain(self):
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            pay.send(self.order.pk)
            assert not self.is_paid()
        assert self.is_paid()

    @override_jobs("inline")
    def test_async(self):
        with self.captureOnCommitCallbacks(execute=True):
            apay.send(self.order.pk)
        assert self.is_paid()

    @override_jobs("inline")
    async def test_in_an_async_test(self):
        await pay.asend(self.order.pk)
        await self.order.arefresh_from_db()
        assert self.order.paid

    @override_jobs("record")
    def test_recorded(self):
        with self.captureOnCommitCallbacks(execute=True):
            pay.send(self.order.pk)
        assert_sent(pay, self.order.pk)
"""
TESTS = """
import pytest
from django.db import transaction

from shop.models import Order
from shop.tasks import apay, jobs, pay
from sync_kit_django.testing import assert_not_sent, assert_sent, drain, override_jobs


@pytest.mark.parametrize("task", [pay, apay])
def test_inline(db, inline_jobs, django_capture_on_commit_callbacks, task):
    order = Order.objects.create()
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        task.send(order.pk)
    order.refresh_from_db()
    assert order.paid
    assert (len(callbacks), len(inline_jobs)) == (1, 1)


@pytest.mark.parametrize("task", [pay, apay])
def test_inline_commits(transactional_db, inline_jobs, task):
    with transaction.atomic():
        order = Order.objects.create()
        task.send(order.pk)
    order.refresh_from_db()
    assert order.paid


def test_recorded(db, recorded_jobs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        pay.send(1)
    assert_sent(pay, 1)
    assert recorded_jobs[0].data == 1


def test_settings(settings):
    settings.SYNC_KIT = {"JOBS": {"MODE": "record", "ON_COMMIT": False}}
    pay.send(1)
    assert_sent(pay, 1)
    assert_not_sent(apay)


def test_settings_are_as_they_were(sync_kit):
    assert pay.send(1).sent
    assert jobs.counts().waiting == 1


@override_jobs("record")
def test_decorated():
    pay.send(1)
    assert_sent(pay)


def test_without_a_database(recorded_jobs):
    pay.send(1)
    assert_sent(pay)
"""


@pytest.fixture
def project(tmp_path):
    for name, text in {
        "settings.py": SETTINGS,
        "shop/__init__.py": "",
        "shop/models.py": MODELS,
        "shop/tasks.py": TASKS,
        "shop/tests.py": CASES,
        "test_shop.py": TESTS,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def run(project, server, *command):
    environment = {**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{ROOT}", "REDIS_URL": server.url}
    environment |= {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True, timeout=55
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_the_tests_of_a_project_run_by_pytest_django(project, server):
    plugins = ["-p", "pytest_django", "-p", "sync_kit.pytest_plugin", "-p", "no:cacheprovider", "-W", "error"]
    where = ["-c", os.devnull, "--rootdir", str(project), str(project / "test_shop.py"), str(project / "shop/tests.py")]
    assert "13 passed" in run(project, server, "pytest", *plugins, *where)


def test_the_tests_of_a_project_run_by_django(project, server):
    assert "Ran 4 tests" in run(project, server, "django", "test", "shop")
