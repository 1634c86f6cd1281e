"""Django: an app with which workflows run right in views, commands and tests.

``"stepfunction.contrib.django"`` in ``INSTALLED_APPS`` is all that it takes. Executions
come in as they are; their tasks find the language, the databases and the rules of the
transaction that the caller has, and leave no connection behind.
"""

from stepfunction.contrib.django.errors import AtomicBlockError, MemoryDatabaseError
from stepfunction.contrib.django.transactions import run_on_commit, transactional

__all__ = ["AtomicBlockError", "MemoryDatabaseError", "run_on_commit", "transactional"]
