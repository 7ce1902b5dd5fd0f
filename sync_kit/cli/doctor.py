"""`sync-kit doctor`: looks at the server and the queues, and says what is wrong and what to do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from sync_kit.cli.queue_checks import check_queue
from sync_kit.cli.screen import Json, console, on_terminal, show_json
from sync_kit.cli.server_checks import check_server
from sync_kit.cli.snapshot import look
from sync_kit.cli.targets import load_queues
from sync_kit.kit import SyncKit, default_kit
from sync_kit.queue.logs import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sync_kit.cli.finding import Finding, Level

Some = Annotated[list[str] | None, typer.Argument(metavar="TARGET", help="Queues to look at.", show_default=False)]

STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    targets: Some = None,
    url: Annotated[
        str | None, typer.Option(help="A server to look at without a target; else REDIS_URL or VALKEY_URL.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Goes with --url.")] = "sync-kit",
    as_json: Json = False,
) -> None:
    """Look for what is wrong with the server and with queues.

    Each line is ok, warn or fail, with what to do. The exit code is 1 when something fails.
    """
    if targets and url:
        raise typer.BadParameter("targets know their server: give targets or --url, not both")
    queues = load_queues(targets or [])
    kits = {queue.kit for queue in queues.values()} or {
        default_kit() if url is None else SyncKit(url, namespace=namespace)
    }
    findings = [finding for kit in sorted(kits, key=repr) for finding in check_server(kit)]
    findings += [finding for seen in look(queues) for finding in check_queue(seen)]
    if as_json:
        show_json({"ok": not _fails(findings), "findings": findings})
    else:
        _print(findings)
    if _fails(findings):
        raise typer.Exit(1)


def _fails(findings: Sequence[Finding]) -> bool:
    return any(finding.level == "fail" for finding in findings)


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(clean(finding.about)) for finding in findings) + 2
    for finding in findings:
        _line(finding, width)
    count = Counter(finding.level for finding in findings)
    said = ", ".join(f"{count[level]} {level}" for level in STYLES if count[level])
    _say(Text(f"\n{said}", "dim"))


def _line(finding: Finding, width: int) -> None:
    """The level, what was looked at, what was seen; the advice below."""
    level, about = (f"{finding.level:<6}", STYLES[finding.level]), (f"{clean(finding.about):<{width}}", "bold")
    _say(Text.assemble(level, about, clean(finding.says)))
    if finding.advice:
        _say(Text(f"{' ' * (6 + width)}-> {clean(finding.advice)}", "dim"))


def _say(text: Text) -> None:
    if on_terminal():
        console().print(text, soft_wrap=True)
    else:
        typer.echo(text.plain)
