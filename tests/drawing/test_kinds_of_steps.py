from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from shared.pictures import drawn, node

from stepfunction import Execution, FailStepError, StepFunction, StepFunctionError

NEW_YEAR = datetime(2027, 1, 1, 9, 30, tzinfo=timezone.utc)
WEST = timezone(timedelta(hours=-5))


def same(value=None):
    return value


def fail(value=None):
    raise LookupError("no")


def is_big(value):
    return value > 10


def pause_of(value):
    return 0


def one(name, method, *args, **options):
    workflow = StepFunction("W")
    getattr(workflow, method)(name, *args, **options)
    return workflow.set_start_step(name)


def choice():
    workflow = StepFunction("W")
    conditions = [(is_big, "Big"), (lambda value: value < 0, "Debt")]
    workflow.add_pass_step("Choose", branch=conditions, next_step="Small")
    workflow.add_step("Big", same).add_step("Debt", same).add_step("Small", same)
    return workflow.set_start_step("Choose")


def shared(**options):
    workflow = StepFunction("W", on_failure="Sorry", **options)
    for number in range(9):
        workflow.add_step(f"A{number}", same, f"A{number + 1}")
    workflow.add_step("A9", same).add_step("Sorry", same)
    return workflow.set_start_step("A0")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": 5}, "wait 5 s"),
        ({"seconds": 0.25}, "wait 250 ms"),
        ({"seconds": pause_of}, "wait as pause_of says"),
        ({"seconds": lambda value: 1}, "wait as its input says"),
        ({"until": NEW_YEAR}, "until 2027-01-01 09:30 UTC"),
        ({"until": NEW_YEAR.replace(second=7)}, "until 2027-01-01 09:30:07 UTC"),
        ({"until": NEW_YEAR.astimezone(WEST)}, "until 2027-01-01 04:30:00-05:00"),
        ({"until": pause_of}, "until when pause_of says"),
    ],
)
def test_a_wait_step_says_how_long(options, said):
    workflow = one("Pause", "add_wait_step", **options)
    assert f'label="Pause\\n{said}"' in workflow.to_dot()
    assert f'"Pause<br>{said}"'.replace(":", "#58;") in workflow.to_mermaid()
    assert f"Pause  ({said}, end)" in drawn(workflow)


def test_a_pass_step_with_a_constant_says_so_and_not_which():
    workflow = one("Five", "add_pass_step", {"pin": 1234})
    assert 'label="Five\\na constant"' in workflow.to_dot()
    assert "Five  (a constant, end)" in drawn(workflow)
    assert "1234" not in workflow.to_dot() + workflow.to_mermaid() + drawn(workflow)


def test_a_pass_step_that_branches_is_a_diamond():
    workflow = choice()
    assert "diamond" in node(workflow.to_dot(), "Choose")
    assert "diamond" not in node(workflow.to_dot(), "Big")
    assert '{"Choose"}' in workflow.to_mermaid()


def test_the_arrow_of_a_condition_has_its_name():
    workflow = choice()
    for label in ("is_big", "condition 2", "otherwise"):
        assert f'label=" {label} "' in workflow.to_dot()
        assert f'-->|"{label}"|' in workflow.to_mermaid()
    assert "├─ if is_big → Big\n" in drawn(workflow)
    assert "├─ if condition 2 → Debt\n" in drawn(workflow)


def test_a_fail_step_is_an_end_that_looks_failed():
    workflow = one("Stop", "add_fail_step", "Refused", "nobody said why")
    statement = node(workflow.to_dot(), "Stop\\nfails: Refused")
    assert "shape=octagon" in statement
    assert 'color="#d64550"' in statement
    assert "peripheries=2" in statement
    assert '{{"Stop<br>fails#58; Refused"}}' in workflow.to_mermaid()
    assert "Stop  (fails: Refused, end)" in drawn(workflow)


def test_a_box_after_a_nested_workflow_hangs_on_no_fail_step():
    inner = StepFunction("Inner")
    inner.add_pass_step("Ask", branch=[(is_big, "Good")], next_step="Stop")
    inner.add_step("Good", same).add_fail_step("Stop", "Refused").set_start_step("Ask")
    workflow = StepFunction("W").add_step("In", inner, "After").add_step("After", same)
    dot = workflow.set_start_step("In").to_dot()
    good, after = (
        node(dot, name).split(" [")[0].split()[-1] for name in ("Good", "After")
    )
    assert f"{good} -> {after} [" in dot


def test_the_failure_step_of_a_whole_workflow_says_so_and_nobody_else_does():
    workflow = shared()
    dot, chart, tree = workflow.to_dot(), workflow.to_mermaid(), drawn(workflow)
    assert 'label="Sorry\\non failure of any step"' in dot
    assert '"Sorry<br>on failure of any step"' in chart
    assert "Sorry  (failure step, on failure of any step, end)" in tree
    assert dot.count("dashed") == chart.count("-.->") == 1
    assert "→ Sorry" not in dot + tree


def test_steps_with_a_failure_step_of_their_own_have_their_arrows():
    workflow = shared()
    workflow.add_step("B", same, "A0", "Mend").add_step("Mend", same)
    workflow.set_start_step("B")
    assert 'label="Sorry\\non failure of any other step"' in workflow.to_dot()
    assert workflow.to_dot().count("dashed") == 2
    assert "├─ B\n│  └─ on failure → Mend\n" in drawn(workflow)


def test_a_failure_step_that_not_all_steps_share_is_named_by_those_that_do():
    workflow = StepFunction("W").set_start_step("A0")
    for number in range(9):
        workflow.add_step(f"A{number}", same, f"A{number + 1}", on_failure="Sorry")
    workflow.add_step("A9", same).add_step("Sorry", same)
    assert "of any" not in workflow.to_dot() + drawn(workflow)
    assert drawn(workflow).count("on failure → Sorry") == 9


def test_the_arrow_of_a_failure_is_drawn_where_a_run_took_it():
    workflow = shared()
    workflow.add_step("B", fail, "A0").set_start_step("B")
    execution = workflow.execute(1)
    assert execution.to_dot().count('style=dashed, color="#d64550"') == 1
    assert "linkStyle" in execution.to_mermaid()


@pytest.mark.parametrize(
    ("undo", "said"), [(same, "undo: same"), (lambda value: None, "can be undone")]
)
def test_a_step_says_what_undoes_it(undo, said):
    workflow = one("Pay", "add_step", same, compensate=undo)
    assert f'label="Pay\\n{said}"' in workflow.to_dot()
    assert f'"Pay<br>{said}"'.replace(": ", "#58; ") in workflow.to_mermaid()
    assert f"Pay  ({said}, end)" in drawn(workflow)


def test_a_task_says_what_undoes_it():
    tasks = {"card": same, "points": same}
    undo = {"card": fail}
    workflow = one("Pay", "add_step", tasks, parallel=True, compensate=undo)
    assert 'label="card\\nundo: fail"' in workflow.to_dot()
    assert 'label="points"' in workflow.to_dot()
    assert "task card  (undo: fail)\n" in drawn(workflow)


@pytest.mark.parametrize(
    ("value", "taken"), [(11, "is_big"), (-1, "condition 2"), (5, "otherwise")]
)
def test_of_a_run_the_arrow_of_the_condition_that_held_is_bold(value, taken):
    execution = choice().execute(value)
    copy = Execution.from_json(execution.to_json())
    for it in (execution, copy):
        bold = [line for line in it.to_mermaid().splitlines() if "==>|" in line]
        assert len(bold) == 1
        assert f'"{taken}"' in bold[0]


def test_a_picture_of_a_run_calls_no_condition():
    called = []

    def holds(value):
        called.append(value)
        return True

    workflow = StepFunction("W")
    workflow.add_pass_step("A", branch=[(holds, "B"), (is_big, "B")])
    execution = workflow.add_step("B", same).set_start_step("A").execute(1)
    execution.to_dot(), execution.to_mermaid()
    assert called == [1]


def test_of_a_run_a_fail_step_says_its_error_once():
    execution = one("Stop", "add_fail_step", "Refused").execute()
    assert node(execution.to_dot(), "Stop").count("Refused") == 1


def test_of_a_run_what_failed_with_a_fail_step_inside_names_its_error():
    inner = one("Stop", "add_fail_step", "Refused")
    workflow = StepFunction("W").add_step("In", inner, on_failure="End")
    execution = workflow.add_step("End", same).set_start_step("In").execute()
    assert "✗ failed" in node(execution.to_dot(), "In: W")
    assert "Refused" in node(execution.to_dot(), "In: W")


def test_a_run_that_waited_is_drawn():
    workflow = StepFunction("W").add_wait_step("Pause", seconds=0, next_step="End")
    execution = workflow.add_pass_step("End", 5).set_start_step("Pause").execute(1)
    assert "wait 0 ms\\n✓" in execution.to_dot()
    assert "a constant\\n✓" in execution.to_dot()


def test_the_report_tells_of_waits_choices_and_ends(tmp_path):
    workflow = StepFunction("W")
    workflow.add_pass_step("Choose", branch=[(is_big, "Pause")], next_step="Stop")
    workflow.add_wait_step("Pause", seconds=0, next_step="Stop")
    workflow.add_fail_step("Stop", "Refused", "it was too much")
    execution = workflow.set_start_step("Choose").execute(11)
    page = tmp_path / "run.html"
    execution.report(page)
    text = page.read_text()
    assert '<p class="sf-said">wait 0 ms</p>' in text
    assert '<p class="sf-said">fails: Refused</p>' in text
    assert "<b>FailStepError</b>: Refused: it was too much" in text


@pytest.mark.parametrize("is_drawn", [True, False])
def test_a_report_that_hides_values_hides_constants_and_causes(
    tmp_path, monkeypatch, is_drawn
):
    from stepfunction.drawing import parts

    if not is_drawn:
        monkeypatch.setattr(parts, "svg_for_notebook", lambda *_: None)
    secret = "4111-1111"

    def refuse(_):
        raise FailStepError(f"Declined: {secret}", "Declined", secret)

    workflow = StepFunction("W").add_pass_step("Card", secret, next_step="Pay")
    workflow.add_step("Pay", refuse, on_failure="End").add_step("End", str)

    def hide(where, value):
        return value.replace(secret, "…") if isinstance(value, str) else value

    execution = workflow.set_start_step("Card").execute(1)
    page = tmp_path / "run.html"
    execution.report(page, redact=hide)
    assert secret not in page.read_text()


def test_a_report_without_a_picture_says_what_each_step_does(tmp_path, monkeypatch):
    from stepfunction.drawing import parts

    monkeypatch.setattr(parts, "svg_for_notebook", lambda *_: None)
    page = tmp_path / "run.html"
    choice().execute(11).report(page)
    assert "if is_big → Big" in page.read_text()


def test_what_is_drawn_is_drawn_of_a_run_that_could_not_end():
    workflow = StepFunction("W").add_wait_step("Pause", seconds=fail)
    workflow.set_start_step("Pause")
    with pytest.raises(StepFunctionError) as caught:
        workflow.execute(1)
    assert "wait as fail says\\n✗ failed" in caught.value.execution.to_dot()
