"""What the tests of this floor add to the fixtures of the house."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.io.tools import soon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.proxy import Proxy


@pytest.fixture
def proxy(proxy: Proxy) -> Iterator[Proxy]:
    """The proxy; fails a test whose kit leaves a connection open."""
    yield proxy
    soon(lambda: proxy.connections == 0)
