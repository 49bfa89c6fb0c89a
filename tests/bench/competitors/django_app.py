"""Django with sessions in the cache, on django-redis, as its documentation sets it up; served by gunicorn."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

if TYPE_CHECKING:
    from django.http import HttpRequest

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": os.environ["REDIS_URL"],
            "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
        }
    },
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a benchmark",
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)


def session(request: HttpRequest) -> HttpResponse:
    """POST fills the session with the attributes in the body: creates it, or changes single ones; GET reads them."""
    if request.method == "POST":
        for name, value in json.loads(request.body).items():
            request.session[name] = value
        return HttpResponse(status=204)
    return JsonResponse(dict(request.session.items()))


urlpatterns = [path("", session)]
application = get_wsgi_application()
