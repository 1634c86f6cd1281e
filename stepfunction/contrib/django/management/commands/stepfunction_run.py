"""``manage.py stepfunction_run``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction run``."""

    verb = "run"
