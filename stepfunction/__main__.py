"""``python -m stepfunction`` is the command ``stepfunction``."""

import sys

from stepfunction.cli import main

if __name__ == "__main__":
    sys.exit(main())
