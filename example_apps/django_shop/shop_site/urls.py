from django.contrib import admin
from django.urls import include, path

from sync_kit_django import rate_limited

urlpatterns = [
    path("admin/login/", rate_limited("5/minute", key="ip", methods=["POST"])(admin.site.login)),
    path("admin/", admin.site.urls),
    path("", include("store.urls")),
]
