"""Run the concurrency tests again and again while every core is kept busy.

All runs are made; then each test that failed is listed with how often it did.

    COUNT=50 JOBS=1 python tests/stress.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = [
    "tests/test_concurrency.py",
    "tests/core/engine/test_start.py",
    "tests/core/workers/test_cooperation.py",
    "tests/core/workers/test_timeouts.py",
    "tests/core/workers/test_execution_timeouts.py",
    "tests/core/workers/test_nested_timeouts.py",
    "tests/core/workers/test_heartbeat.py",
    "tests/core/workers/test_order_of_attempts.py",
    "tests/core/engine/test_parallel.py",
    "tests/core/engine/test_parallel_failures.py",
    "tests/core/engine/test_parallel_workers.py",
    "tests/core/engine/test_stop_on_failure.py",
    "tests/core/engine/test_cancelled_anywhere.py",
    "tests/core/engine/test_interrupts.py",
    "tests/core/engine/test_map_crashes.py",
    "tests/core/engine/test_map_variables.py",
    "tests/core/lanes/test_ahead.py",
    "tests/core/lanes/test_context_variables.py",
    "tests/core/lanes/test_crashes.py",
    "tests/core/lanes/test_kills.py",
    "tests/core/lanes/test_lanes.py",
    "tests/core/lanes/test_marks.py",
    "tests/core/lanes/test_programs.py",
    "tests/core/lanes/test_random_calls.py",
    "tests/core/lanes/test_starts.py",
    "tests/stores/test_sqlite_claims.py",
    "tests/stores/test_sqlite_files.py",
    "tests/stores/test_sqlite_interrupts.py",
]
# It burns until whoever began it is no more, however that ended.
BURN = """\
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100_000):
        pass
"""
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)

failures: Counter[str] = Counter()
printing = threading.Lock()


def run(number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short"]
        + ["-p", "no:cacheprovider", *FILES],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    failed = set(FAILED.findall(done.stdout.partition("test summary info")[2]))
    if done.returncode and not failed:
        failed = {f"(pytest itself ended with {done.returncode})"}
    with printing:
        failures.update(failed)
        if failed:
            print(done.stdout)
        print(f"run {number}: {len(failed)} failed", flush=True)


def main(count: int, jobs: int) -> int:
    burners = [
        subprocess.Popen([sys.executable, "-c", BURN], stderr=subprocess.DEVNULL)
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        with ThreadPoolExecutor(jobs) as threads:
            try:
                list(threads.map(run, range(1, count + 1)))
            except KeyboardInterrupt:  # pytest has heard it too
                threads.shutdown(cancel_futures=True)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    for test, times in failures.most_common():
        print(f"{times:4} of {count} times: {test}")
    print(f"{len(failures)} tests failed in {count} runs")
    return 1 if failures else 0


if __name__ == "__main__":
    settings = os.environ
    sys.exit(main(int(settings.get("COUNT", 50)), int(settings.get("JOBS", 1))))
