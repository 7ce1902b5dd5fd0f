"""`sync-kit doctor`: each trouble is found, and told with what to do."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import App, wait_for

HUSH = "hush-hush"
OLDER = """
from tasks import Jobs, Note, kit
jobs = Jobs("notes", kit=kit)

@jobs.task(schema=Note)
async def write(note: Note) -> None: ...
"""


def findings(ran):
    """Level and words of each finding, by what was looked at."""
    found = json.loads(ran.stdout)["findings"]
    return {each["about"]: (each["level"], f"{each['says']} {each['advice']}") for each in found}


@pytest.fixture
def doctor(tmp_path, namespace):
    """`doctor(server, ...)` looks at a server."""

    def look(server, *words, **environment):
        return App(tmp_path, server.url, namespace).run("doctor", *words, **environment)

    return look


def test_a_healthy_server_is_ok_line_by_line(own_server, doctor):
    ran = doctor(own_server(appendonly=True), "tasks:jobs")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "\x1b" not in ran.stdout
    *lines, empty, last = ran.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(lines)
    assert [line.split()[1] for line in lines] == (
        "scripts latency clock server eviction persistence memory clients queue".split()
    )
    assert (empty, last) == ("", f"{len(lines)} ok")


def test_without_a_target_it_looks_at_the_server_of_the_environment(own_server, doctor):
    server = own_server()
    assert str(server.port) in doctor(server).stdout
    assert str(server.port) in doctor(server, "--url", server.url, REDIS_URL="redis://127.0.0.1:1").stdout


def test_a_server_that_throws_keys_away_fails(own_server, doctor):
    ran = doctor(own_server("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"), "--json")
    assert ran.returncode == 1
    level, words = findings(ran)["eviction"]
    assert level == "fail"
    assert "allkeys-lru" in words
    assert "noeviction" in words


def test_a_limit_without_eviction_is_ok_until_it_is_nearly_reached(own_server, doctor):
    server = own_server("--maxmemory", "20mb", "--maxmemory-policy", "noeviction")
    ran = doctor(server, "--json")
    assert ran.returncode == 0
    assert [findings(ran)[name][0] for name in ("eviction", "memory")] == ["ok", "ok"]
    client, number = server.client(), 0
    while client.info("memory")["used_memory"] < 17 * 1024 * 1024:
        client.set(f"ballast:{(number := number + 1)}", b"x" * 100_000)
    assert findings(doctor(server, "--json"))["memory"][0] == "warn"


@pytest.mark.parametrize(
    ("save", "said"), [("", "nothing is written to disk"), ("3600 1", "snapshots only: a crash loses")]
)
def test_a_server_without_aof_is_a_warning(own_server, doctor, save, said):
    server = own_server()
    server.client().config_set("save", save)
    ran = doctor(server, "--json")
    assert ran.returncode == 0
    level, words = findings(ran)["persistence"]
    assert level == "warn"
    assert said in words
    assert "appendonly" in words


def test_a_user_who_may_not_ask_is_told_so(own_server, doctor):
    server = own_server("--user", "app", "on", f">{HUSH}", "~*", "+@all", "-config", "-info")
    url = f"redis://app:{HUSH}@127.0.0.1:{server.port}/0"
    ran = doctor(server, "--json", REDIS_URL=url)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert findings(ran)["server"][0] == "warn"
    assert HUSH not in ran.stdout + ran.stderr


def test_refused_settings_are_said_to_be_unseen(own_server, doctor):
    server = own_server("--user", "app", "on", f">{HUSH}", "~*", "+@all", "-config")
    ran = doctor(server, "--json", REDIS_URL=f"redis://app:{HUSH}@127.0.0.1:{server.port}/0")
    assert "CONFIG is refused" in findings(ran)["persistence"][1]
    assert HUSH not in ran.stdout + ran.stderr


def test_a_user_who_may_not_use_scripts_is_one_line_and_exit_code_2(own_server, doctor):
    server = own_server("--user", "app", "on", f">{HUSH}", "~*", "+@all", "-eval", "-evalsha")
    ran = doctor(server, REDIS_URL=f"redis://app:{HUSH}@127.0.0.1:{server.port}/0")
    assert ran.returncode == 2
    assert ran.stderr.startswith("sync-kit: Redis refused probe on")
    assert HUSH not in ran.stdout + ran.stderr


def test_a_replica_fails(own_server, doctor):
    primary = own_server()
    replica = own_server("--replicaof", f"127.0.0.1 {primary.port}", "--replica-read-only", "yes")
    wait_for(lambda: replica.client().info("replication")["master_link_status"] == "up", "a replica in step")
    ran = doctor(replica, "--json")
    assert ran.returncode == 1
    assert findings(ran)["role"][0] == "fail"


def test_every_node_of_a_cluster_is_looked_at(cluster, doctor):
    ran = doctor(cluster, "--json", REDIS_URL=cluster.url)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = [each for each in json.loads(ran.stdout)["findings"] if each["about"] == "cluster"]
    assert [each["level"] for each in told] == ["ok"] * 3


def test_a_node_of_a_cluster_that_is_taken_for_a_server_fails(cluster, doctor):
    node = cluster.url.replace("+cluster", "").split(",")[0]
    ran = doctor(cluster, "--json", REDIS_URL=node)
    assert ran.returncode in (1, 2)
    assert "redis+cluster://" in ran.stdout + ran.stderr


def test_work_without_a_worker_fails(app, tasks):
    tasks.send("hello")
    ran = app.run("doctor", "tasks:jobs", "--json")
    assert ran.returncode == 1
    level, words = findings(ran)["queue notes"]
    assert level == "fail"
    assert "1 to be done, and no worker" in words
    assert "sync-kit worker tasks:jobs" in words


def test_what_is_delayed_and_nobody_there_to_run_it_is_a_warning_until_it_is_overdue(app, tasks, server):
    job = tasks.send("later", delay=600)
    ran = app.run("doctor", "tasks:jobs", "--json")
    assert ran.returncode == 0
    level, words = findings(ran)["queue notes"]
    assert (level, words) == ("warn", "1 delayed, and no worker start one: sync-kit worker tasks:jobs")
    server.client().zadd(tasks.jobs.engine.layout.delayed, {job: 1_000_000_000_000})
    ran = app.run("doctor", "tasks:jobs", "--json")
    assert ran.returncode == 1
    level, words = findings(ran)["queue notes"]
    assert level == "fail"
    assert "overdue: delayed jobs, and no worker" in words


def test_a_paused_queue_is_a_warning(app, tasks):
    tasks.send("hello")
    tasks.jobs.blocking.pause()
    ran = app.run("doctor", "tasks:jobs")
    assert ran.returncode == 0
    assert "sync-kit resume tasks:jobs" in ran.stdout


def test_parked_jobs_and_tasks_that_no_worker_knows_are_told_by_name(app, tasks):
    app.write("older.py", OLDER)
    with app.start("worker", "older:jobs") as worker:
        worker.says("started")
        parked = tasks.gone.blocking.send(text="hello").id
        tasks.reach(parked, "parked")
        ran = app.run("doctor", "tasks:jobs")
    assert "no worker knows block" in ran.stdout
    assert "1 parked, because no worker knows their task: 1 of gone" in ran.stdout


def test_many_failed_jobs_are_a_warning(app, tasks):
    with app.start("worker", "tasks:jobs") as worker:
        worker.says("started")
        tasks.write.blocking.send_many([{"text": "bad"}] * 100)
        wait_for(lambda: tasks.jobs.blocking.counts().failed == 100, "failed jobs")
        ran = app.run("doctor", "tasks:jobs")
    assert "100 have failed" in ran.stdout
    assert "sync-kit jobs list tasks:jobs --status failed" in ran.stdout
