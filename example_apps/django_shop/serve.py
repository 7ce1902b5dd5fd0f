"""Start the shop with its worker in the same process, and tell what to try. Ctrl-C ends both."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn

HERE = Path(__file__).parent
TRY = """
Try, in a browser:
  http://localhost:{port}/sign-up/          an account; a mail is written to data/mails when it is made
  http://localhost:{port}/                  order something: its invoice is mailed
  http://localhost:{port}/reports/2026/     one process at a time adds up a year
  http://localhost:{port}/admin/            sign in as admin / admin: queues, jobs, schedules, workers
"""


def prepare() -> None:
    """Make tables, and somebody who may see the admin."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    if not User.objects.filter(username="admin").exists():
        User.objects.create_superuser("admin", "admin@example.com", "admin")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_site.settings")
    prepare()
    port = int(os.environ.get("PORT", "8000"))
    print(TRY.format(port=port), flush=True)
    uvicorn.run("shop_site.asgi:application", port=port)
