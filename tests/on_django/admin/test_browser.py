"""The pages in a real browser, with JavaScript and without."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from tests.on_django.admin.conftest import ROOT

REPOSITORY = Path(__file__).resolve().parents[3]
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PATIENCE = 30.0

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not on PATH")


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def reachable(port):
    with socket.socket() as made:
        return made.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def site_url(server, namespace, tables):
    """The project in a process of its own."""
    port = free_port()
    said = {
        "DJANGO_SETTINGS_MODULE": "tests.on_django.project.settings",
        "TEST_URLCONF": "tests.on_django.admin.served",
        "TEST_URL": server.url,
        "TEST_NAMESPACE": namespace,
        "TEST_FOLDER": settings.FOLDER,
        "PYTHONPATH": str(REPOSITORY),
    }
    words = [sys.executable, "-m", "django", "runserver", "--noreload", "--insecure", f"127.0.0.1:{port}"]
    with subprocess.Popen(words, cwd=REPOSITORY, env=os.environ | said, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + PATIENCE
        while not reachable(port):
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(params=["with JavaScript", "without JavaScript"])
def browser(request, tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"):
        options.add_argument(word)
    if request.param == "without JavaScript":
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    made.implicitly_wait(PATIENCE)
    yield made
    ran_scripts = made.find_element("tag name", "html").get_attribute("data-theme") is not None
    made.quit()
    assert ran_scripts == (request.param == "with JavaScript")


def rows(browser):
    return browser.find_elements("css selector", "#result_list tbody tr")


def follow(browser, how, where):
    """Click what leads to another page, and wait until this one is gone."""
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.wait import WebDriverWait

    page = browser.find_element("tag name", "html")
    browser.find_element(how, where).click()
    WebDriverWait(browser, PATIENCE).until(staleness_of(page))


def press(browser, title):
    follow(browser, "xpath", f"//button[normalize-space()='{title}']")


def says(browser):
    return browser.find_element("css selector", ".messagelist").text


def assert_it_looks_as_the_admin_does(browser):
    """What versions of Django lay out in different ways."""
    trail, head = (browser.find_element("css selector", which) for which in (".breadcrumbs", ".breadcrumbs a"))
    assert trail.value_of_css_property("background-color") != "rgba(0, 0, 0, 0)"
    assert head.value_of_css_property("color") == "rgba(255, 255, 255, 1)"
    search, form = (browser.find_element("id", name).rect for name in ("toolbar", "changelist-form"))
    assert search["y"] + search["height"] <= form["y"], "the search is above the list"
    assert search["width"] == form["width"]
    button = browser.find_element("css selector", ".sk-actions .sk-delete")
    assert button.value_of_css_property("color") == "rgba(255, 255, 255, 1)"


@pytest.mark.timeout(120)
def test_a_person_logs_in_looks_retries_and_deletes(mail, browser, site_url):
    retried, deleted = mail.failed("bad-one"), mail.failed("bad-two")
    User.objects.create_superuser("root", password="open")
    browser.get(f"{site_url}/admin/")
    browser.find_element("name", "username").send_keys("root")
    browser.find_element("name", "password").send_keys("open")
    follow(browser, "css selector", "[type=submit]")
    follow(browser, "link text", "Background jobs")
    follow(browser, "link text", "mail")
    assert len(rows(browser)) == 2
    assert_it_looks_as_the_admin_does(browser)

    browser.find_element("css selector", f"input[value='{retried}']").click()
    press(browser, "Retry selected")
    assert says(browser) == "1 job runs again."
    assert mail.status(retried) == "waiting"

    follow(browser, "css selector", f"a[href$='job/{deleted}/']")
    assert "no mailbox bad-two" in browser.find_element("css selector", "pre.sk-loud").text
    press(browser, "Delete")
    assert deleted in browser.find_element("id", "content-main").text
    assert mail.status(deleted) == "failed"
    press(browser, "Yes, I’m sure")  # noqa: RUF001 (as Django writes it)
    assert says(browser) == "1 job is deleted."
    assert mail.status(deleted) is None
    assert browser.current_url.endswith(f"{ROOT}queue/mail/")
