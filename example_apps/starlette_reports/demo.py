"""Start the app under uvicorn, drive it over HTTP, and print what happens. Exit code 0 only if all of it was seen.

With `--serve` the app keeps running for a person to try.
"""

from __future__ import annotations

import mailbox
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import httpx

HERE = Path(__file__).parent
TOPIC = max(topics, key=lambda name: len(topics[name]))
NEWSLETTER = {"subject": "News", "recipients": [f"reader{n}@example.com" for n in range(10)]}


class App:
    """The app as a process of its own, on a port that the system picks."""

    def __init__(self, where: Path) -> None:
        self.mailbox = where / "mail.mbox"
        self._log = where / "uvicorn.log"
        settings = {"MAILBOX": str(self.mailbox), "REDIS_URL": f"embedded://{where / 'data'}"}
        command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(HERE), "--port", "0"]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
        self.url = wait_for(self._announced, "the app to start")
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def _announced(self) -> str | None:
        if self.process.poll() is not None:
            raise SystemExit(f"the app did not start:\n{self._log.read_text()}")
        found = re.search(r"running on (http://\S+)", self._log.read_text())
        return found[1] if found else None

    def as_user(self, name: str, path: str = "/") -> httpx.Response:
        """Ask for a page as a user."""
        return self.http.get(path, headers={"x-user": name})

    def post(self, **data: Any) -> httpx.Response:
        """Send an e-mail or a newsletter."""
        return self.http.post("/emails", json=data)

    def job(self, job_id: str) -> dict[str, Any]:
        """What the app says of a job."""
        shown: dict[str, Any] = self.as_user("watcher", f"/jobs/{job_id}").raise_for_status().json()
        return shown

    def mails(self) -> list[str]:
        """The recipients of the mails in the mailbox."""
        if not self.mailbox.exists():
            return []
        with closing(mailbox.mbox(self.mailbox, create=False)) as box:
            return [str(message["To"]) for message in box]

    def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        self.http.close()
        self.process.send_signal(number)
        self.process.wait(30)


@contextmanager
def running(where: Path) -> Iterator[App]:
    """The app, ended with the block."""
    app = App(where)
    try:
        yield app
    finally:
        if app.process.poll() is None:
            app.end(signal.SIGTERM)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20.0, every: float = 0.05) -> Any:
    """Poll until `condition` holds, and return what it answered."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if answer := condition():
            return answer
        time.sleep(every)
    raise SystemExit(f"  FAILED waited {seconds:.0f} s for {what}")


def check(seen: bool, text: str) -> None:
    """One line of the transcript; the demo ends at the first thing that is not as promised."""
    print(f"  {'ok    ' if seen else 'FAILED'} {text}", flush=True)
    if not seen:
        raise SystemExit(1)


def limit(app: App) -> float:
    """100 requests pass, the next does not. Returns when alice may come again (monotonic seconds)."""
    print("Rate limit: 100 requests a minute for each user")
    codes = [app.as_user("alice").status_code for _ in range(100)]
    check(codes == [200] * 100, "requests 1 to 100 of alice: 200")
    refused = app.as_user("alice")
    again = int(refused.headers["retry-after"])
    check(refused.status_code == 429, f"request 101 of alice: {refused.status_code}, Retry-After: {again}")
    check(1 <= again <= math.ceil(63), "Retry-After is within the window of 60 s and one part (3 s) of it")
    check(app.as_user("bob").status_code == 200, "request 1 of bob: 200")
    return time.monotonic() + again


def report(app: App) -> None:
    """Two ask for the same report at the same time."""
    print(f"Exclusive section: the report on {TOPIC!r} is built by one request at a time")
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda name: app.as_user(name, f"/reports/{TOPIC}"), ["carol", "dave"]))
    done, busy = sorted(both, key=lambda response: response.status_code)
    check([done.status_code, busy.status_code] == [200, 409], f"two at once: {done.status_code}, {busy.status_code}")
    check("retry-after" in busy.headers, f"the refusal says Retry-After: {busy.headers.get('retry-after')}")
    check(done.json()["words"] == len(topics[TOPIC].split()), f"the report is right: {done.json()['words']} words")
    check(app.as_user("dave", f"/reports/{TOPIC}").status_code == 200, "asked again afterwards: 200")


def email(app: App) -> None:
    """A job is accepted, and done moments later."""
    print("Background job: an e-mail is sent after the response")
    began = time.monotonic()
    accepted = app.post(to="ann@example.com", subject="Hi", body="Hello!")
    check(accepted.status_code == 202, f"POST /emails: 202, job {accepted.json()['id']}")
    wait_for(lambda: "ann@example.com" in app.mails(), "the e-mail")
    check(True, f"in the mailbox after {1000 * (time.monotonic() - began):.0f} ms")
    wrong = app.post(to="ann@example.com", subject=7)
    check(wrong.status_code == 422, f"a payload that the schema refuses: 422, {wrong.json()['detail']}")


def failure(app: App) -> None:
    """A job that fails is retried, then kept as failed."""
    print("Retries: an e-mail to nowhere")
    job = app.post(to="nowhere", subject="Hi", body="Hello!").json()["id"]
    wait_for(lambda: app.job(job)["status"] == "failed", "the job to fail", every=0.25)
    listed = {item["id"]: item for item in app.as_user("watcher", "/jobs/failed").json()}
    check(listed[job]["attempts"] == 3, f"run 3 times (retries=2), listed as failed: {listed[job]['error']}")


def start_newsletter(app: App) -> str:
    """Kill the app in the middle of a job."""
    print("Recovery: SIGKILL in the middle of a job")
    job: str = app.post(**NEWSLETTER).json()["id"]
    wait_for(lambda: len(app.mails()) >= 4, "the first newsletters")
    app.end(signal.SIGKILL)
    check(len(app.mails()) < 1 + len(NEWSLETTER["recipients"]), f"killed after {len(app.mails()) - 1} of 10 mails")
    return job


def finish_newsletter(app: App, job: str) -> None:
    """The job runs again when the lease of the dead worker ends."""
    began = time.monotonic()
    check(app.job(job)["status"] == "active", "the app is started again; the lease of the dead worker runs on")
    wait_for(lambda: app.job(job)["status"] == "completed", "the job to be finished", 60, every=1.0)
    check(app.job(job)["status"] == "completed", f"run again and completed after {time.monotonic() - began:.0f} s")
    mails = sorted(app.mails()[1:])
    check(mails == sorted(NEWSLETTER["recipients"]), "every reader has the newsletter, and has it once")


def admitted_again(app: App, when: float) -> None:
    """After `Retry-After` the same call is admitted."""
    print("Rate limit, later")
    time.sleep(max(0.0, when - time.monotonic()))
    check(app.as_user("alice").status_code == 200, "after Retry-After, across the kill: alice gets 200")


def demo(where: Path) -> None:
    """The whole transcript."""
    with running(where) as app:
        alice = limit(app)
        report(app)
        email(app)
        failure(app)
        job = start_newsletter(app)
    with running(where) as app:
        finish_newsletter(app, job)
        admitted_again(app, alice)
    print("All of it was seen.")


def serve(where: Path) -> None:
    """Keep the app running until Ctrl-C."""
    with running(where) as app:
        print(f"The app runs on {app.url}; its mailbox is {app.mailbox}. Try, in another terminal:\n")
        print(f"  curl -i {app.url}/reports/{TOPIC}")
        print(f"""  curl -i {app.url}/emails -d '{{"to": "ann@example.com", "subject": "Hi", "body": "Hello!"}}'""")
        print(f"  curl -i {app.url}/jobs/failed\n\nCtrl-C ends it.", flush=True)
        try:
            app.process.wait()
        except KeyboardInterrupt:
            print("ending")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="sync-kit-demo-") as folder:
        (serve if "--serve" in sys.argv[1:] else demo)(Path(folder))
