"""Choose by conditions, give constants, and fail with an error of your own.

A loan is granted, refused or looked at by a clerk. What fails without a failure step of
its own goes to that of the workflow.
"""

from __future__ import annotations

from stepfunction import Context, Execution, FailStepError, StepFunction

Request = dict[str, float]


def score(request: Request) -> float:
    return request["income"] * 0.3 / request["rate"]


def is_safe(points: float) -> bool:
    return points >= 10


def is_doubtful(points: float) -> bool:
    return points >= 5


def ask_clerk(points: float) -> str:
    return f"a clerk looks at {points:g} points"


def apologise(error: Exception, context: Context) -> str:
    return f"{context.failed.step} is out of order: {error!r}"


workflow = StepFunction("Loan", on_failure="Apologise")
workflow.add_step("Score", score, next_step="Decide")
workflow.add_pass_step(
    "Decide",
    branch=[(is_safe, "Grant"), (is_doubtful, "Ask_Clerk")],
    next_step="Refuse",
)
workflow.add_pass_step("Grant", {"answer": "granted", "days": 14})
workflow.add_step("Ask_Clerk", ask_clerk)
workflow.add_fail_step("Refuse", "Loan.Refused", "too few points")
workflow.add_step("Apologise", apologise)
workflow.set_start_step("Score")


def account(execution: Execution) -> str:
    error = execution.error
    if isinstance(error, FailStepError):
        return f"{execution.status}: {error.error}, {error.cause}"
    return f"{execution.status}: {execution.output}"


def main() -> None:
    for income, rate in ((80, 2), (40, 2), (10, 2), (10, 0)):
        print(account(workflow.execute({"income": income, "rate": rate})))


if __name__ == "__main__":
    main()
