"""``manage.py stepfunction_show``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction show``."""

    verb = "show"
