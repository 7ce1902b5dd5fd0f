"""URLs of the project under a real server."""

from __future__ import annotations

import asyncio
import time

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

from sync_kit_django import exclusive, lease_of, rate_limited


@rate_limited("3/minute", key="<header.x-client>")
def limited(request):
    return HttpResponse("limited")


@rate_limited("3/minute", key="<header.x-client>")
async def limited_later(request):
    return HttpResponse("limited")


@exclusive("report:<number>")
def report(request, number):
    time.sleep(float(request.GET.get("takes", "0")))
    return HttpResponse(str(lease_of(request).fence))


@exclusive("report:<number>")
async def report_later(request, number):
    await asyncio.sleep(float(request.GET.get("takes", "0")))
    return HttpResponse(str(lease_of(request).fence))


@exclusive("stream")
def stream(request):
    def parts():
        for _ in range(int(request.GET.get("parts", "3"))):
            yield "x" * 1000
            time.sleep(0.05)

    return StreamingHttpResponse(parts())


@exclusive("stream")
async def stream_later(request):
    async def parts():
        for _ in range(int(request.GET.get("parts", "3"))):
            yield "x" * 1000
            await asyncio.sleep(0.05)

    return StreamingHttpResponse(parts())


urlpatterns = [
    path("live", lambda request: HttpResponse()),
    path("limited/", limited),
    path("limited-later/", limited_later),
    path("reports/<int:number>/", report),
    path("reports-later/<int:number>/", report_later),
    path("stream/", stream),
    path("stream-later/", stream_later),
]
