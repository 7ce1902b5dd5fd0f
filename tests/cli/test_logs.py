"""The log of a worker: what others wrote is shown and not obeyed."""

from __future__ import annotations

import logging

from sync_kit.queue.logs import Formatter

FORGED = r"2026-01-01 00:00:00,000 INFO    sync_kit: all is well"
APP_THAT_SHOUTS = """
@jobs.task(schema=Note)
async def shout(note: Note) -> None:
    raise ValueError("\\x1b[2J\\x07gone\\r\\n%s")
"""


def made(message, error=None):
    record = logging.LogRecord("sync_kit", logging.ERROR, __file__, 1, message, (), None)
    if error is not None:
        record.exc_info = (type(error), error, None)
    return Formatter("%(levelname)s %(message)s").format(record)


def test_control_characters_are_spelled_out_and_further_lines_are_indented():
    assert made("a\x1b[2J\x07b\r\nforged\tline") == "ERROR a\\x1b[2J\\x07b\\r\n    forged\tline"
    assert made("plain, with ümlauts 東京") == "ERROR plain, with ümlauts 東京"
    assert made("it failed", ValueError("x\nINFO forged")) == "ERROR it failed\n    ValueError: x\n    INFO forged"


def test_an_error_of_a_job_forges_no_line_of_the_log(app, tasks):
    from tests.cli.conftest import APP

    app.write("shouting.py", APP + APP_THAT_SHOUTS % FORGED)
    with app.start("worker", "shouting:jobs") as worker:
        worker.says("started")
        tasks.jobs.task(schema=dict, name="shout")(lambda note: None).blocking.send({"text": "x"})
        said = worker.says("all is well")
    assert "\x1b" not in said
    assert "\x07" not in said
    assert not any(line.startswith(FORGED) for line in said.splitlines())
    assert "\\x1b[2J\\x07gone" in said
