"""Settings of the demo: SQLite in the current folder, and a strict policy for pages."""

ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "django_demo.db",
        # Tasks in threads write at the same time as each other, so they wait in line.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEBUG = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "stepfunction.contrib.django",
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "project.policy.content_security_policy",
]
ROOT_URLCONF = "project.urls"
SECRET_KEY = "only to try it out"
STATIC_URL = "static/"
STEPFUNCTION = {"REDACT": "shop.privacy.hide_cards"}
TEMPLATES = [
    {
        "APP_DIRS": True,
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "context_processors": ["django.template.context_processors.request"]
        },
    }
]
TIME_ZONE = "UTC"
USE_TZ = True
