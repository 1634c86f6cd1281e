"""Servers that end, or end a worker of theirs, while tasks run in processes."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

import pytest
from shared import processes
from shared.django_servers import processes_of, serving, wait_for
from shared.processes import is_alive, is_gone


def hang(ask, kind, path):
    """Ask for what never ends, and wait until that has begun."""

    def wait():
        with suppress(OSError):
            ask(f"hang/{kind}?begun={path}", timeout=60)

    threading.Thread(target=wait, daemon=True).start()
    processes.wait_for(path)


def workers_of(server):
    return [pid for pid in processes_of(server) if pid != server.pid]


@pytest.mark.parametrize("kind", ["inline", "lane"])
def test_a_worker_that_hangs_for_too_long_is_replaced_with_all_that_it_has(
    kind, tmp_path
):
    with serving("impatient", "") as (ask, server):
        assert ask("pid-of-a-worker")[0] == 200
        hang(ask, kind, tmp_path / "begun")
        workers = workers_of(server)
        assert all(is_gone(pid, 20) for pid in workers)
        assert ask("pid-of-a-worker")[0] == 200


@pytest.mark.parametrize("kind", ["thread", "lane"])
def test_a_server_that_is_reloaded_leaves_no_process_that_hangs(kind, tmp_path):
    with serving("graceful", "") as (ask, server):
        assert ask("pid-of-a-worker")[0] == 200
        hang(ask, kind, tmp_path / "begun")
        workers = workers_of(server)
        server.send_signal(signal.SIGHUP)
        assert all(is_gone(pid, 20) for pid in workers)
        assert ask("pid-of-a-worker")[0] == 200


@pytest.mark.parametrize("kind", [None, "thread", "process", "lane"])
def test_a_development_server_that_reloads_itself_leaves_no_process(kind, tmp_path):
    settings = tmp_path / "touched_settings.py"
    settings.write_text("from shop.settings import *\nDEBUG = True\n")
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    own = {"DJANGO_SETTINGS_MODULE": "touched_settings", "PYTHONPATH": paths}
    with serving("runserver", "", **own) as (ask, server):
        assert ask("pid-of-a-worker")[0] == 200
        if kind is not None:
            hang(ask, kind, tmp_path / "begun")
        workers = workers_of(server)

        def has_reloaded():
            settings.touch()  # again, for it may not have looked at it before
            return not any(map(is_alive, workers))

        wait_for(has_reloaded)
        os.killpg(server.pid, signal.SIGINT)
        server.wait(20)
        assert not workers_of(server)
