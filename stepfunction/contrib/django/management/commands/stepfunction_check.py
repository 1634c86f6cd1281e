"""``manage.py stepfunction_check``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction check``."""

    verb = "check"
