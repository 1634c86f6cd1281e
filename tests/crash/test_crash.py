"""A real program that is killed at any moment goes on, and does nothing twice."""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest
from driver import Story

SECONDS = float(os.environ.get("CRASH_SECONDS", "20"))
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**6))


@pytest.mark.timeout(SECONDS + 120)
def test_what_is_recorded_is_never_done_again(tmp_path):
    counts: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    seed = SEED
    while time.monotonic() < end:
        folder = tmp_path / str(seed)
        folder.mkdir()
        story = Story(folder, seed)
        story.go(0.35, end)
        counts += story.counts
        seed += 1
    print(f"seeds {SEED} to {seed - 1}: {dict(counts)}")
    assert counts["kills"] > counts["ended"]
