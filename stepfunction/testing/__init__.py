"""A kit to test workflows, for pytest, unittest and Django's TestCase alike.

Plain functions and context managers; nothing need be installed or registered. In a
``unittest.TestCase``, ``self.enterContext(mock_steps(…))`` holds for the whole test.
"""

from stepfunction.testing.dry_runs import DryRunError, dry_run
from stepfunction.testing.inline import run_inline
from stepfunction.testing.mocks import Mock, Mocks, mock_steps
from stepfunction.testing.mutations import (
    Mutation,
    SharedMutationError,
    Unwatched,
    Watch,
    detect_shared_mutation,
)
from stepfunction.testing.paths import assert_path
from stepfunction.testing.stand_ins import UsedUpError, returning
from stepfunction.testing.waits import SkippedWait, SkippedWaits, skip_waits

__all__ = [
    "DryRunError",
    "Mock",
    "Mocks",
    "Mutation",
    "SharedMutationError",
    "SkippedWait",
    "SkippedWaits",
    "Unwatched",
    "UsedUpError",
    "Watch",
    "assert_path",
    "detect_shared_mutation",
    "dry_run",
    "mock_steps",
    "returning",
    "run_inline",
    "skip_waits",
]
