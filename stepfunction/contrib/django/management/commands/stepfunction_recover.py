"""``manage.py stepfunction_recover``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction recover``."""

    verb = "recover"
