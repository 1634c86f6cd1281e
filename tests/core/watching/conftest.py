from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from stepfunction import Event


@pytest.fixture
def executor(request, lanes):
    if request.param == "process":
        yield lanes
    elif request.param == "threads of others":
        with ThreadPoolExecutor(2) as pool:
            yield pool
    elif request.param == "processes of others":
        with ProcessPoolExecutor(1) as pool:
            yield pool
    else:
        yield request.param


# The kinds of the events that this process makes.
@pytest.fixture
def made(monkeypatch):
    made = []
    make = Event._of

    def count(facts):
        event = make(facts)
        made.append(event.kind)
        return event

    monkeypatch.setattr(Event, "_of", count)
    return made
