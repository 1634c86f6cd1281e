"""``manage.py stepfunction_resume``."""

from stepfunction.contrib.django.management.command import WorkflowCommand


class Command(WorkflowCommand):
    """The command ``stepfunction resume``."""

    verb = "resume"
