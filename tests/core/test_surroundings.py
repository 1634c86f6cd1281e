from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
from shared import tenants
from shared.tenants import Marked, Refusing, Swallowing, Tenant, as_tenant, tell

from stepfunction import (
    DefinitionError,
    ProcessLanes,
    RetryPolicy,
    Status,
    StepExecutionError,
    StepFunction,
    TransferError,
    register_surroundings,
)

PLACES = ["thread", "process", "lanes", "pool"]


@pytest.fixture(scope="module")
def places(lanes):
    with ThreadPoolExecutor(2) as pool:
        yield {"lanes": lanes, "pool": pool}


@pytest.fixture
def registered():
    take_back = register_surroundings(Tenant())
    yield
    take_back()


def both(function, executor="thread", **options):
    workflow = StepFunction("Both")
    tasks = {"one": function, "two": function}
    workflow.add_parallel_step("Both", tasks, executor=executor, **options)
    return workflow.set_start_step("Both")


def alone(function, **options):
    workflow = StepFunction("Alone").add_step("Alone", function, **options)
    return workflow.set_start_step("Alone")


@pytest.mark.parametrize("place", PLACES)
def test_tasks_find_what_is_registered(registered, places, place):
    with as_tenant("acme"):
        execution = both(tell, places.get(place, place)).execute()
    assert execution.output == {"one": "acme", "two": "acme"}


@pytest.mark.parametrize("place", PLACES)
def test_tasks_find_what_an_execution_was_given(places, place):
    workflow = both(tell, places.get(place, place))
    with as_tenant("acme"):
        given = workflow.execute(surroundings=[Tenant()]).output
        assert given == {"one": "acme", "two": "acme"}
        assert set(workflow.execute().output.values()) == {None}


def test_those_of_an_execution_are_within_those_of_its_workflow(places):
    workflow = StepFunction("Tell", surroundings=[Marked("a")])
    workflow.add_step("Tell", tell, executor="thread").set_start_step("Tell")
    take_back = register_surroundings(Marked("r"))
    try:
        given = [Marked("b"), Marked("c")]
        assert workflow.execute(surroundings=given).output == "rabc"
        assert workflow.execute().output == "ra"
    finally:
        take_back()
    assert workflow.execute().output == "a"


@pytest.mark.parametrize("place", ["thread", "process"])
def test_what_a_task_hands_on_has_them_too(places, place):
    inner = both(tell, place)
    outer = both(inner, place)
    with as_tenant("acme"):
        execution = outer.execute(surroundings=[Tenant()])
    assert execution.output["one"] == {"one": "acme", "two": "acme"}


def test_a_workflow_that_is_started_is_surrounded(registered):
    with as_tenant("acme"):
        execution = alone(tell).start()
    assert execution.wait(20)
    assert execution.output == "acme"


def test_a_workflow_that_is_awaited_is_surrounded(registered):
    async def main():
        with as_tenant("acme"):
            return await alone(tell).aexecute()

    assert asyncio.run(main()).output == "acme"


def test_what_is_given_to_start_and_aexecute_is_around_their_thread():
    async def main():
        return await alone(tell).aexecute(surroundings=[Marked("m")])

    execution = alone(tell).start(surroundings=[Marked("m")])
    assert execution.wait(20)
    assert execution.output == "m" == asyncio.run(main()).output


def test_nothing_is_entered_in_the_callers_thread(registered):
    tenants.seen.clear()
    both(tell, "inline").execute()
    alone(tell).execute()
    assert tenants.seen == []


class CallersThread(Executor):
    def submit(self, fn, /, *args, **keywords):
        future = Future()
        future.set_result(fn(*args, **keywords))
        return future


def test_nothing_is_entered_where_an_executor_is_the_callers_thread(registered):
    tenants.seen.clear()
    with as_tenant("acme"):
        output = both(tell, CallersThread()).execute().output
    assert output == {"one": "acme", "two": "acme"}
    assert tenants.seen == []


def test_each_attempt_is_surrounded(registered):
    tenants.seen.clear()
    workflow = alone(
        tenants.fail, executor="thread", retry=RetryPolicy(max_attempts=3, interval=0)
    )
    with pytest.raises(StepExecutionError):
        workflow.execute()
    assert tenants.seen == ["entered"] * 3  # and left by the error


def test_a_process_has_them_before_it_unpickles_the_task(registered, lanes):
    workflow = alone(tenants.give_back, executor=lanes)
    with as_tenant("acme"):
        assert workflow.execute(tenants.NeedsTenant()).output == "acme"


def test_a_process_has_them_until_it_has_pickled_the_result(registered, lanes):
    workflow = alone(tenants.give_what_tells_tenant, executor=lanes)
    with as_tenant("acme"):
        assert workflow.execute().output == "acme"


def test_what_is_submitted_to_lanes_has_them(registered, lanes):
    with as_tenant("acme"):
        assert lanes.submit(tell).result() == "acme"
    assert lanes.submit(tell).result() is None


def test_an_initializer_of_lanes_has_them(registered):
    with as_tenant("acme"):
        lanes = ProcessLanes(1, initializer=note_tenant)
    with lanes:
        assert lanes.submit(noted).result() == "acme"


_noted = []


def note_tenant():
    _noted.append(tell())


def noted():
    return _noted[0]


@pytest.mark.parametrize("moment", ["take", "enter", "leave"])
@pytest.mark.parametrize("place", PLACES)
def test_what_they_raise_is_the_failure_of_the_task(places, place, moment):
    workflow = both(tell, places.get(place, place), tolerated_failures=2)
    execution = workflow.execute(surroundings=[Refusing(moment)])
    assert {repr(it) for it in execution.output.failed.values()} == {
        f"LookupError({moment!r})"
    }


@pytest.mark.parametrize("moment", ["take", "enter", "leave"])
def test_what_they_raise_is_the_failure_of_what_was_started(moment):
    execution = alone(tell).start(surroundings=[Refusing(moment)])
    assert execution.wait(20)
    if moment == "leave":  # when it was over
        assert execution.status is Status.COMPLETED
    else:
        assert execution.status is Status.FAILED
        assert repr(execution.error) == f"LookupError({moment!r})"


@pytest.mark.parametrize("place", PLACES)
def test_they_cannot_keep_an_error_to_themselves(places, place):
    workflow = both(tenants.fail, places.get(place, place), tolerated_failures=2)
    execution = workflow.execute(surroundings=[Swallowing()])
    assert [type(it) for it in execution.output.failed.values()] == [ValueError] * 2


def test_what_cannot_be_pickled_fails_in_processes_alone(lanes):
    class Local(Tenant):
        pass

    with pytest.raises(StepExecutionError) as raised:
        both(tell, lanes).execute(surroundings=[Local()])
    assert isinstance(raised.value.__cause__, TransferError)
    assert "Local" in str(raised.value.__cause__)
    with as_tenant("acme"):
        execution = both(tell).execute(surroundings=[Local()])
    assert execution.output["one"] == "acme"


@pytest.mark.parametrize("given", [Tenant, "tenant", 3, [object()], [Tenant]])
def test_what_are_no_surroundings_is_refused(given):
    with pytest.raises(DefinitionError, match="surroundings"):
        StepFunction("Tell", surroundings=given)
    with pytest.raises(DefinitionError, match="surroundings"):
        alone(tell).execute(surroundings=given)
    if isinstance(given, list):
        given = given[0]
    with pytest.raises(TypeError):
        register_surroundings(given)


def test_to_register_again_changes_nothing():
    tenant = Marked("m")
    take_back = register_surroundings(tenant)
    again = register_surroundings(tenant)
    try:
        assert alone(tell, executor="thread").execute().output == "m"
    finally:
        take_back()
        again()
    assert alone(tell, executor="thread").execute().output is None


def test_any_object_with_both_methods_will_do():
    class Names:
        def take(self):
            return threading.current_thread().name

        def enter(self, taken):
            return as_tenant(taken)

    execution = both(tell).execute(surroundings=[Names()])
    assert execution.output["one"] == threading.current_thread().name


def test_a_copy_of_a_workflow_has_its_surroundings():
    workflow = StepFunction("Tell", surroundings=[Marked("m")])
    workflow.add_step("Tell", tell, executor="thread").set_start_step("Tell")
    assert workflow.copy().execute().output == "m"
