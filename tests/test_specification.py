from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType

import pytest

from stepfunction import NoBranchMatchedError, Status, StepFunction

PROGRAM = Path(__file__).with_name("data") / "car_purchase_verbatim.py"
PICTURE = "Validate_Car_Purchase_Transaction_Workflow"
STEPS = (
    "Parse_Car_Purchase_Transaction",
    "Check_If_Car_Purchase_Transaction_Is_Valid",
    "Update_Company_DB_Records",
    "Update_Car_Purchase_Transaction_Status",
    "Send_Notification_To_User_Email",
    "End",
    "Generic_Failure_Handler",
)


@pytest.fixture
def executions(monkeypatch):
    execute, seen = StepFunction.execute, []

    def watched(self, *args, **kwargs):
        execution = execute(self, *args, **kwargs)
        seen.append(execution)
        return execution

    monkeypatch.setattr(StepFunction, "execute", watched)
    return seen


@pytest.fixture(params=["as it is", "without async"])
def run(request, executions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = PROGRAM.read_text(encoding="utf-8")
    is_async = request.param == "as it is"
    if not is_async:
        source = source.replace("async def ", "def ").replace("await ", "")
        assert "async" not in source and "await" not in source

    def run(check=None):
        program = ModuleType("car_purchase")
        exec(compile(source, str(PROGRAM), "exec"), program.__dict__)
        if check is not None:
            program.check_if_car_purchase_transaction_is_valid = check
        outcome = program.validate_car_purchase_transaction_workflow()
        if is_async:
            asyncio.run(outcome)
        [execution] = executions
        return execution

    return run


def steps_of(execution):
    return [record.step for record in execution.history if record.task is None]


def test_the_program_ends_at_the_failure_step_as_its_check_returns_none(run):
    execution = run()
    assert execution.status is Status.FAILED
    assert steps_of(execution) == [
        "Parse_Car_Purchase_Transaction",
        "Check_If_Car_Purchase_Transaction_Is_Valid",
        "Generic_Failure_Handler",
    ]
    assert type(execution.error) is NoBranchMatchedError
    assert execution.error.result is None
    assert execution.error.known == ("valid", "invalid")


def test_the_program_updates_all_records_where_its_check_returns_valid(run):
    execution = run(check=lambda: "valid")
    assert execution.status is Status.COMPLETED
    assert steps_of(execution) == [
        "Parse_Car_Purchase_Transaction",
        "Check_If_Car_Purchase_Transaction_Is_Valid",
        "Update_Company_DB_Records",
        "Update_Car_Purchase_Transaction_Status",
        "Send_Notification_To_User_Email",
        "End",
    ]
    assert execution.context["Update_Company_DB_Records"] == {
        "update_shipping_db_record": None,
        "update_payment_db_record": None,
        "update_inventory_db_record": None,
    }


def test_the_program_only_sends_a_notification_where_its_check_returns_invalid(run):
    execution = run(check=lambda: "invalid")
    assert execution.status is Status.COMPLETED
    assert steps_of(execution) == [
        "Parse_Car_Purchase_Transaction",
        "Check_If_Car_Purchase_Transaction_Is_Valid",
        "Send_Notification_To_User_Email",
        "End",
    ]


def test_the_program_draws_its_picture(run, tmp_path):
    run()
    [picture] = tmp_path.iterdir()
    # Without Graphviz the picture is its DOT text.
    assert picture.name in (f"{PICTURE}.svg", f"{PICTURE}.dot")
    text = picture.read_text(encoding="utf-8")
    assert [name for name in STEPS if name not in text] == []
