"""The Django project of the tests, and workflows that hand out what they are given."""

import os
from pathlib import Path

import pytest

from stepfunction import StepFunction

HERE = Path(__file__).parents[1] / "contrib" / "django"
SETTINGS = "shop.settings"
needs_postgres = pytest.mark.skipif(
    not os.environ.get("SHOP_POSTGRES"),
    reason="run by .ci/postgres, which starts a server",
)


def fan_out(*functions, **options):
    tasks = {f"t{number}": function for number, function in enumerate(functions)}
    workflow = StepFunction("Fan").add_parallel_step("Both", tasks, **options)
    return workflow.set_start_step("Both")


def both(function, **options):
    return fan_out(function, function, **options)
