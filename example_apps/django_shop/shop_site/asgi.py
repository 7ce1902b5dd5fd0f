"""`uvicorn shop_site.asgi:application`; the worker runs in the same process."""

import os

from django.core.asgi import get_asgi_application

from sync_kit_django.asgi import with_worker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_site.settings")
application = with_worker(get_asgi_application())
