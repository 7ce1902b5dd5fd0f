"""The embedded server: a real Valkey or Redis of one's own, shared by the processes of an app.

`attach("embedded://", namespace)` starts it when it is not there; it goes when its last user goes.
The README of this folder tells how.
"""

from sync_kit._io.embedded.attachment import Attachment, attach
from sync_kit._io.embedded.target import Target, parse

__all__ = ["Attachment", "Target", "attach", "parse"]
