"""The shop on real servers, and how to ask them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

from shared.django_shop import HERE, SETTINGS
from shared.processes import stats

GUNICORN = ["-m", "gunicorn", "shop.wsgi", "--bind={address}", "--log-level=warning"]
THREADED = [*GUNICORN, "--threads=4", "--worker-class=gthread"]
UVICORN = ["-m", "uvicorn", "shop.asgi:application", "--host={host}", "--port={port}"]
SERVERS = {
    "sync": [*GUNICORN, "--workers=4", "--preload"],
    "gthread": [*THREADED, "--workers=2"],
    "one": [*THREADED, "--workers=1"],
    "impatient": [*GUNICORN, "--workers=1", "--timeout=4", "--log-level=critical"],
    "graceful": [*THREADED, "--workers=1", "--graceful-timeout=1", "--timeout=4"],
    "uvicorn": [*UVICORN, "--log-level=warning"],
    "runserver": ["-m", "django", "runserver", "{address}"],
}


def environment_of(default="postgres", **variables):
    paths = filter(None, (str(HERE), os.environ.get("PYTHONPATH")))
    project = {"PYTHONPATH": os.pathsep.join(paths), "DJANGO_SETTINGS_MODULE": SETTINGS}
    return {**os.environ, **project, "SHOP_DEFAULT": default, **variables}


def wait_for(is_so, seconds=20.0):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.01)


@contextmanager
def serving(server, default="postgres", **variables):
    """Start a server, in a session of its own; give how to ask it, and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, port = probe.getsockname()
    facts = {"host": host, "port": port, "address": f"{host}:{port}"}
    command = [part.format(**facts) for part in SERVERS[server]]
    command = [sys.executable, *command]
    environment = environment_of(default, **variables)
    process = subprocess.Popen(command, env=environment, start_new_session=True)

    def ask(path, timeout=25):
        try:
            url = f"http://{host}:{port}/{path}"
            with urllib.request.urlopen(url, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_up():
        with socket.socket() as client:
            return client.connect_ex((host, port)) == 0

    try:
        wait_for(is_up)
        yield ask, process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            for pid in processes_of(process):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def processes_of(server):
    """Give the processes of a server that are alive, itself and its workers' too."""
    return [int(stat[0]) for stat in stats() if stat[5] == str(server.pid)]
