"""Poll until done: start a job, then wait and ask for it until it has ended.

Or until the maximum wait is over, as for the film that never ends.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from stepfunction import ExecutionTimeoutError, StepFunction

MAXIMUM_WAIT = 1.5  # seconds; of a real service rather timedelta(hours=1)


class Service:
    """Stand in for a service that works on its own: each job takes a few looks."""

    def __init__(self) -> None:
        self.looks: dict[str, count[int]] = {}

    def start(self, film: str) -> dict[str, Any]:
        self.looks[film] = count(1)
        return {"film": film, "state": "queued", "done": 0}

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        looks = next(self.looks[job["film"]])
        done = 0 if job["film"] == "Endless" else min(100, 30 * looks)
        if job["film"] == "Lost" and done > 50:
            return {**job, "state": "failed", "done": done}
        state = "ready" if done == 100 else "working"
        return {**job, "state": state, "done": done}


def pause(job: dict[str, Any]) -> float:
    """Look more often when the end is near. A real service is given seconds."""
    return 0.02 if job["done"] > 50 else 0.04


service = Service()
# A loop needs a largest number of steps; of a long one only what happened last is of
# interest.
workflow = StepFunction("Transcode", max_steps=1000, keep_history=4)
workflow.add_step("Start", service.start, next_step="Wait")
workflow.add_wait_step("Wait", seconds=pause, next_step="Ask")
workflow.add_step(
    "Ask",
    service.ask,
    branch=[
        (lambda job: job["state"] == "ready", "Download"),
        (lambda job: job["state"] == "failed", "Give_Up"),
    ],
    next_step="Wait",
)
workflow.add_step("Download", lambda job: f"{job['film']}.mp4")
workflow.add_fail_step("Give_Up", "Job.Failed", "the service could not read the film")
workflow.set_start_step("Start")


def main() -> None:
    for film in ("Metropolis", "Lost", "Endless"):
        try:
            execution = workflow.execute(film, timeout=MAXIMUM_WAIT)
        except ExecutionTimeoutError as error:
            print(f"{film}: {error.execution.status}, {error}")
            continue
        path = " > ".join(record.step for record in execution.history)
        print(f"{film}: {execution.status}, {execution.output or execution.error}")
        print(f"  {execution.forgotten} steps, then {path}")


if __name__ == "__main__":
    main()
