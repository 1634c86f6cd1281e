from __future__ import annotations

from django.apps import apps
from django.test import override_settings
from shop.models import Car

from stepfunction.contrib.django.conf import setting, unknown_settings


def test_the_app_has_a_label_of_its_own():
    assert apps.get_app_config("stepfunction").name == "stepfunction.contrib.django"


def test_settings_are_read_when_they_are_used():
    assert setting("RELEASE") is True
    with override_settings(STEPFUNCTION={"RELEASE": False}):
        assert setting("RELEASE") is False
        assert setting("IN_ATOMIC") == "error"


def test_settings_that_mean_nothing_are_known():
    with override_settings(STEPFUNCTION={"RELAESE": False, "IN_ATOMIC": "allow"}):
        assert unknown_settings() == ["RELAESE"]


def test_the_project_has_its_databases(tables, alias):
    Car.objects.using(alias).create(name="Roadster")
    assert Car.objects.using(alias).count() == 1
