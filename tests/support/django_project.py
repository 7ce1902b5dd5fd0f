"""The project of tests/on_django around the examples of a Markdown file."""

from __future__ import annotations

import os
import sys
from typing import Any

SETTINGS = ("INSTALLED_APPS", "MIDDLEWARE", "TEMPLATES", "DATABASES")


def start() -> dict[str, Any]:
    """Set Django up on the server of `REDIS_URL`, with empty tables; returns names that settings.py would have."""
    import django

    if django.VERSION < (6,):  # examples import from where django.tasks will be
        import django_tasks

        sys.modules["django.tasks"] = django_tasks
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.on_django.project.settings")
    os.environ.setdefault("TEST_URL", os.environ["REDIS_URL"])
    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    setup_test_environment(debug=False)
    call_command("migrate", verbosity=0)
    return {name: getattr(settings, name) for name in SETTINGS}
