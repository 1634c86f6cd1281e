"""The code of docs/guides/django.md, as the project that its file names make of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shared.pages import ROOT, Page

import stepfunction

PATH = ROOT / "docs" / "guides" / "django.md"
PAGE = Page.read(PATH)
TEXT = PAGE.text
PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])

SETTINGS = """\
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db",
    "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"}}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["shop"]
ROOT_URLCONF = "project.urls"
SECRET_KEY = "of no use to anybody"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True}]
USE_TZ = True
"""
MODELS = """\
from django.db import models
class Order(models.Model):
    car = models.CharField(max_length=50)
    is_paid = models.BooleanField(default=False)
    is_packed = models.BooleanField(default=False)
"""
URLS = """\
from django.urls import path
from shop import async_views, views
urlpatterns = [path("buy", views.buy), path("abuy", async_views.buy)]
"""
BEGIN = """\
import django
django.setup()
from django.core.management import call_command
from django.test import AsyncClient, Client
from django.test.utils import setup_test_environment
call_command("migrate", run_syncdb=True, verbosity=0)
setup_test_environment()
"""


@pytest.fixture
def run(tmp_path):
    files = {"project/settings.py": SETTINGS, "project/urls.py": URLS}
    files |= {"shop/models.py": MODELS}
    for name, text in PAGE.files.items():
        files[name] = files.get(name, "") + text
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        (path.parent / "__init__.py").touch()

    def run(*arguments):
        path = os.pathsep.join((PACKAGE_HOME, str(tmp_path)))
        facts = {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "project.settings"}
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=tmp_path,
            env={**os.environ, **facts},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


PYTHON = [snippet for snippet in PAGE.snippets if snippet.language == "python"]


def test_every_python_snippet_says_which_file_it_is():
    first = [(snippet.file, snippet.code.split("\n")[0]) for snippet in PYTHON]
    assert first == [(file, f"# {file}") for file, _ in first]
    assert len(first) > 5


def test_the_page_begins_with_a_project_of_about_ten_lines():
    lines = "".join(snippet.code for snippet in PYTHON[:3]).splitlines()
    assert len([line for line in lines if line and line[0] != "#"]) < 14


def test_nobody_is_asked_to_close_a_connection():
    assert "close_all" not in TEXT
    assert "close_old_connections" not in TEXT


def test_the_view_of_the_page_serves_orders(run):
    script = """\
print(Client().post("/buy", {"car": "Roadster"}).json())
from shop.models import Order
print(Order.objects.values_list("car", "is_paid", "is_packed").get())
"""
    assert run("-c", BEGIN + script)[0] == "{'order': 1}\n('Roadster', True, True)\n"


def test_the_async_view_of_the_page_serves_orders(run):
    script = """\
import asyncio
print(asyncio.run(AsyncClient().post("/abuy", {"car": "Roadster"})).json())
"""
    assert run("-c", BEGIN + script)[0] == "{'order': 1}\n"


def test_the_other_snippets_of_the_page_do_what_it_says(run):
    script = """\
from shop import by_name, receivers, steps
print(steps.reserve("Wagon"), by_name.buy("Flivver").context["Place"])
print(receivers.ended)
"""
    assert run("-c", BEGIN + script)[0] == (
        "1 2\n[('Checkout', 'COMPLETED', {'payment': None, 'parcel': None})]\n"
    )


def test_the_user_of_the_page_reaches_its_tasks(run):
    script = """\
from shop import audit
from stepfunction import StepFunction
audit.here.user_id = 7
tasks = {"payment": lambda _: audit.here.user_id}
sale = StepFunction("Sale").add_parallel_step("All", tasks).set_start_step("All")
print(sale.execute(1).output["payment"])
"""
    assert run("-c", BEGIN + script)[0] == "7\n"


def test_the_test_case_of_the_page_passes(run):
    assert "Ran 1 test" in run("-m", "django", "test", "shop")[1]


def test_the_project_of_the_page_is_sound(run):
    assert run("-m", "django", "check", "--fail-level", "WARNING")
    assert run("-m", "django", "stepfunction_list")[0].startswith("shop.Checkout")


APP = Path(stepfunction.__file__).parent / "contrib" / "django"


def test_every_check_is_in_the_page():
    made = re.findall(r"\{TAG\}\.([EW]\d{3})", (APP / "checks.py").read_text("utf-8"))
    assert len(made) > 5
    assert [it for it in made if f"`stepfunction.{it}`" not in TEXT] == []


def test_every_setting_is_in_the_page():
    made = re.findall(r'^    "([A-Z_]+)":', (APP / "conf.py").read_text("utf-8"), re.M)
    assert len(made) > 3
    assert [it for it in made if f"| `{it}` |" not in TEXT] == []
