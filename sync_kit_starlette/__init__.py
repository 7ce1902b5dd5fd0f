"""sync_kit for Starlette and FastAPI: the same words, translated to requests. See README.md here."""

__all__: list[str] = []
