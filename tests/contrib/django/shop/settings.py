"""Settings: SQLite always; PostgreSQL where ``.ci/postgres`` has started one.

``SHOP_DIR`` is where SQLite's files are, ``SHOP_POSTGRES`` is ``host:port:user`` of the
server, ``SHOP_DEFAULT`` names the one database that there is to be, or ``pool``.
"""

import os
import tempfile
from pathlib import Path

DIR = Path(os.environ.get("SHOP_DIR") or tempfile.gettempdir())


def postgres(**options):
    host, port, user = os.environ["SHOP_POSTGRES"].split(":")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": host,
        "PORT": port,
        "USER": user,
        "NAME": os.environ.get("SHOP_NAME", "shop"),
        **options,
    }


DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIR / "shop.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        "TEST": {"NAME": DIR / "test_shop.sqlite3"},
    }
}
if os.environ.get("SHOP_POSTGRES"):
    DATABASES["postgres"] = postgres()
if os.environ.get("SHOP_DEFAULT") == "pool":  # of no more than four connections
    DATABASES = {"default": postgres(OPTIONS={"pool": {"min_size": 0, "max_size": 4}})}
elif os.environ.get("SHOP_DEFAULT"):
    DATABASES = {"default": DATABASES[os.environ["SHOP_DEFAULT"]]}
if os.environ.get("SHOP_MAX_AGE"):
    DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ["SHOP_MAX_AGE"])

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.staticfiles",
    "stepfunction.contrib.django",
    "shop",
]
MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
LANGUAGES = [("en", "English"), ("de", "German")]
ROOT_URLCONF = "shop.urls"
SECRET_KEY = "of no use to anybody"
STATIC_URL = "/static/"
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
]
TIME_ZONE = "UTC"
USE_I18N = USE_TZ = True
