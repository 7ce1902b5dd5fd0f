"""The command line, `sync-kit`; needs the extra `cli`. See README.md here."""

import sys

__all__ = ["main"]

NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command of `sys.argv`, and end the process.

    The exit code is 0 when all went well, 1 when the answer is a bad one (a job that is not there, a check that
    fails), 2 when the command could not be carried out (wrong options, Redis is away).
    """
    try:
        from sync_kit.cli.app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in NEEDED:
            raise
        sys.exit(f"sync-kit: the command line needs {missing}: pip install 'sync-kit[cli]'")
    run()
