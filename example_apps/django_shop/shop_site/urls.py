from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

from sync_kit_django import protect_login

urlpatterns = [
    path("admin/", protect_login(admin.site, "5/minute").urls),
    path("", include("store.urls")),
    *staticfiles_urlpatterns(),  # with DEBUG: uvicorn and gunicorn serve no files themselves
]
