"""``manage.py stepfunction_history``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction history``."""

    verb = "history"
