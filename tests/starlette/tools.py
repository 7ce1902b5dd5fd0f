"""Small helpers of these tests."""

from __future__ import annotations


def codes(client, *paths: str, **options) -> list[int]:
    """The status codes of some GETs, one after the other."""
    return [client.get(path, **options).status_code for path in paths]
