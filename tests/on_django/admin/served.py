"""The URLs of the project that a browser is shown, with a queue."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from tests.on_django.admin.conftest import Mail

mail = Mail()

urlpatterns = [path("admin/", admin.site.urls)]
