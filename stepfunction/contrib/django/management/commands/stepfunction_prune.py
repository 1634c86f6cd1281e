"""``manage.py stepfunction_prune``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction prune``."""

    verb = "prune"
