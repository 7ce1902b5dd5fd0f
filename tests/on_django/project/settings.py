"""A project for tests. Processes that a test starts are told by the environment where server and database are."""

import os
import tempfile

import django

SECRET_KEY = "for tests alone"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = os.environ.get("TEST_URLCONF", "tests.on_django.project.urls")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "sync_kit_django",
    *([] if django.VERSION >= (6,) else ["django_tasks"]),
    "tests.on_django.shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"

FOLDER = os.environ.get("TEST_FOLDER") or tempfile.mkdtemp(prefix="sk-django-")


def database(name: str) -> dict[str, object]:
    """A SQLite database in a file, so that every thread and process sees the same one; tests use it as it is."""
    path = os.path.join(FOLDER, f"{name}.sqlite3")
    options = {"timeout": 20, "transaction_mode": "IMMEDIATE"}
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": options, "TEST": {"NAME": path}}


DATABASES = {"default": database("default"), "other": database("other")}
if "TEST_POSTGRES" in os.environ:  # "host port name user", the host a folder with a socket
    host, port, dbname, user = os.environ["TEST_POSTGRES"].split()
    engine = "django.db.backends.postgresql"
    DATABASES["default"] = {"ENGINE": engine, "HOST": host, "PORT": port, "NAME": dbname, "USER": user}

TASKS = {
    "default": {
        "BACKEND": "sync_kit_django.TasksBackend",
        "QUEUES": ["default", "mail"],
    }
}

SYNC_KIT = {
    # a test that forgets the fixture `site` is refused a connection rather than given somebody's server
    "URL": os.environ.get("TEST_URL", "redis://127.0.0.1:1"),
    "NAMESPACE": os.environ.get("TEST_NAMESPACE", "tests"),
}
