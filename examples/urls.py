"""Fetch 200 pages: 16 at a time, again where the server is busy, with a progress bar.

A small server on this machine stands in for the web: it is too busy for every tenth
page when that is asked for the first time, and has not the page 13.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from stepfunction import MapResults, RetryPolicy, StepFunction
from stepfunction.progress import RichProgress


class Web(BaseHTTPRequestHandler):
    asked: set[int] = set()

    def do_GET(self) -> None:
        page = int(self.path.removeprefix("/"))
        is_busy = page % 10 == 0 and page not in self.asked
        self.asked.add(page)
        self.send_response(404 if page == 13 else 503 if is_busy else 200)
        self.end_headers()
        self.wfile.write(b"x" * page)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class WebServer(ThreadingHTTPServer):
    request_queue_size = 64


def fetch(url: str) -> int:
    with urlopen(url, timeout=10) as answer:
        return len(answer.read())


def is_worth_another(error: Exception) -> bool:
    """A page that is not there will not be there a second later."""
    return not isinstance(error, HTTPError) or error.code in (429, 502, 503, 504)


def add_up(sizes: MapResults) -> str:
    good = [size for size in sizes if not isinstance(size, Exception)]
    return f"{sum(good):,} bytes of {len(good)} pages; failed: {dict(sizes.failed)}"


crawl = StepFunction("Crawl")
crawl.add_map_step(
    "Fetch",
    fetch,
    max_workers=16,
    retry=RetryPolicy(max_attempts=4, interval=0.02, retry_on=is_worth_another),
    tolerated_failures="5%",
    next_step="Add_Up",
)
crawl.add_step("Add_Up", add_up)
crawl.set_start_step("Fetch")


def main() -> None:
    with WebServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/{page}" for page in range(200)]
        execution = crawl.execute(urls, listeners=[RichProgress()])
        server.shutdown()
    again = [record for record in execution.history if len(record.attempts) > 1]
    print(execution.output)
    print(f"{len(again)} pages were asked for more than once")


if __name__ == "__main__":
    main()
