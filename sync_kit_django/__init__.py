"""The Django adapter of sync_kit. It is not built yet: see CHANGELOG.md for what there is."""

__all__: list[str] = []
