"""``manage.py stepfunction_graph``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction graph``."""

    verb = "graph"
