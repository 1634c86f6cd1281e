"""Put a workflow into a workflow: as a step, and as the tasks of a parallel step."""

from __future__ import annotations

from stepfunction import Execution, StepFunction, TaskResults


def wash(fruit: str) -> str:
    return f"washed {fruit}"


def cut(fruit: str) -> str:
    if "stone" in fruit:
        raise ValueError(f"nobody can cut a {fruit}")
    return f"cut {fruit}"


def split(fruit: str) -> str:
    return f"half {fruit}"


def mix(halves: TaskResults) -> str:
    return " and ".join(halves.values())


def send_back(error: Exception) -> str:
    return f"no salad: {error.__cause__}"


prepare = StepFunction("Prepare")
prepare.add_step("Wash", wash, "Cut")
prepare.add_step("Cut", cut)
prepare.set_start_step("Wash")

salad = StepFunction("Salad")
salad.add_sub_step_function("Prepare", prepare, "Split", on_failure="Send_Back")
salad.add_step("Split", split)
salad.add_step("Send_Back", send_back)
salad.set_start_step("Prepare")

dinner = StepFunction("Dinner")
dinner.add_step("Cook", {"starter": salad, "dessert": prepare}, "Mix", parallel=True)
dinner.add_step("Mix", mix)
dinner.set_start_step("Cook")


def tell(execution: Execution, indent: str = "") -> None:
    """Print an execution and, one level deeper, those that are nested in it."""
    print(f"{indent}{execution.workflow}: {execution.status}, {execution.output!r}")
    for child in execution.children.values():
        tell(child, indent + "  ")


def main() -> None:
    tell(dinner.execute("apple"))
    tell(salad.execute("stone"))


if __name__ == "__main__":
    main()
