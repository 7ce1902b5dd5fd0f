"""`gunicorn shop_site.wsgi`; the worker is a process of its own: `python manage.py runworker`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_site.settings")
application = get_wsgi_application()
