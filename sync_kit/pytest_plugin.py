"""Fixtures for pytest: a kit in a namespace of the test's own, and jobs that are kept or run at once.

pytest loads this by itself once sync-kit is installed. What a test does not ask for is neither imported nor started.
See `sync_kit/testing/README.md`.
"""

from __future__ import annotations

import os
import re
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sync_kit import SyncKit
    from sync_kit.testing import Sent

__all__ = ["inline_jobs", "recorded_jobs", "sync_kit", "sync_kit_url"]


@pytest.fixture(scope="session")
def sync_kit_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The url of the server for tests: `REDIS_URL`, else `VALKEY_URL`, else an embedded server for this session alone.

    Override it in your conftest.py to say another one. Tests are skipped where there is none.
    """
    given = os.environ.get("REDIS_URL") or os.environ.get("VALKEY_URL")
    if given:
        yield given
        return
    from sync_kit import ConfigurationError, SyncKit

    url = f"embedded://{tmp_path_factory.mktemp('sync_kit')}"
    with_the_session = SyncKit(url)  # the server stays while somebody uses it
    try:
        with_the_session.sweep()
    except ConfigurationError as error:
        pytest.skip(f"no server for tests: set REDIS_URL or override the fixture sync_kit_url; {error}")
    yield url
    with_the_session.close()


@pytest.fixture
def sync_kit(request: pytest.FixtureRequest, sync_kit_url: str) -> Iterator[SyncKit]:
    """A kit in a namespace of the test's own; during the test it is the default kit.

    Afterwards the default kit is what it was before, the keys of the namespace are removed, and the kit is closed.
    """
    from sync_kit import SyncKit
    from sync_kit.kit import replace_default

    plain = re.sub(r"[^\w-]+", "-", request.node.name)[:40]
    kit = SyncKit(sync_kit_url, namespace=f"test-{plain}-{uuid.uuid4().hex[:8]}")
    replaced = replace_default(kit)
    yield kit
    replace_default(replaced)
    try:
        kit.sweep()
    finally:
        kit.close_all()


@pytest.fixture
def recorded_jobs() -> Iterator[Sent]:
    """The jobs that the test sends; nothing runs. See `sync_kit.testing.recorded`."""
    from sync_kit.testing import recorded

    with recorded() as sent:
        yield sent


@pytest.fixture
def inline_jobs() -> Iterator[Sent]:
    """The jobs that the test sends; they run at once. See `sync_kit.testing.inline`."""
    from sync_kit.testing import inline

    with inline() as sent:
        yield sent
