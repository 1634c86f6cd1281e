"""The peers: the same chain, and the same fan-out, as each of them writes it.

    PATH/TO/python -I benchmarks/peer_runs.py langgraph chain 1000

Started by ``peers.py``, with a python that has them. Prints what it runs and its
version, or nothing where that is not installed; then runs once for each line of its
input, and answers with a line.
"""

from __future__ import annotations

import asyncio
import operator
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from inspect import iscoroutinefunction
from typing import Annotated, Any, TypedDict

Run = Callable[[], Any]


def distinct_functions(count: int) -> dict[str, Callable[[Any], Any]]:
    namespace: dict[str, Any] = {}
    names = [f"f{number}" for number in range(count)]
    exec("\n".join(f"def {name}(value): return value + 1" for name in names), namespace)
    return {name: namespace[name] for name in names}


# --- the asyncio edition of stepfunction ----------------------------------------


def asyncio_chain(count: int) -> Run:
    workflow = asyncio_edition()
    for number, (name, func) in enumerate(distinct_functions(count).items(), 1):
        workflow.add_step(name, func, f"f{number}" if number < count else None)
    return lambda: asyncio_result(workflow, "f0")


def asyncio_fan_out(count: int) -> Run:
    workflow = asyncio_edition()
    workflow.add_step("All", distinct_functions(count), parallel=True)
    return lambda: list(asyncio_result(workflow, "All").values())


def asyncio_result(workflow: Any, start: str) -> Any:
    workflow.set_start_step(start)  # which a run forgets
    asyncio.run(workflow.execute(0))
    return workflow.last_result


def asyncio_edition() -> Any:
    from stepfunction.core.step_function import StepFunction

    if not iscoroutinefunction(StepFunction.execute):
        raise ImportError("this is the synchronous one")
    return StepFunction("Benchmark")


# --- langgraph ------------------------------------------------------------------


class One(TypedDict):
    value: int


class Many(TypedDict):
    values: Annotated[list[int], operator.add]


def langgraph_chain(count: int) -> Run:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(One)
    functions = distinct_functions(count)
    for name, func in functions.items():
        graph.add_node(name, lambda state, func=func: {"value": func(state["value"])})
    for before, after in zip((START, *functions), (*functions, END)):
        graph.add_edge(before, after)
    app, config = graph.compile(), {"recursion_limit": count + 10}
    return lambda: app.invoke({"value": 0}, config)["value"]


def langgraph_fan_out(count: int) -> Run:
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(Many)
    for name, func in distinct_functions(count).items():
        graph.add_node(name, lambda state, func=func: {"values": [func(0)]})
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    app = graph.compile()
    return lambda: app.invoke({"values": []})["values"]


# --- burr -----------------------------------------------------------------------


def burr_chain(count: int) -> Run:
    from burr.core import ApplicationBuilder

    names = list(actions := burr_actions(count))
    app = (
        ApplicationBuilder()
        .with_actions(**actions)
        .with_transitions(*zip(names, [*names[1:], names[0]]))  # so that it can rerun
        .with_entrypoint(names[0])
        .with_state(value=0)
        .build()
    )

    def run() -> Any:
        app.update_state(app.state.update(value=0))
        return app.run(halt_after=[names[-1]])[2]["value"]

    return run


def burr_actions(count: int) -> dict[str, Any]:
    from burr.core import action

    @action(reads=["value"], writes=["value"])
    def step(state: Any, func: Any) -> Any:
        return state.update(value=func(state["value"]))

    functions = distinct_functions(count)
    return {name: step.bind(func=func) for name, func in functions.items()}


def burr_fan_out(count: int) -> Run:
    from burr.core import ApplicationBuilder
    from burr.core.action import create_action
    from burr.core.parallelism import MapActions

    actions = [create_action(*reversed(it)) for it in burr_actions(count).items()]

    class All(MapActions):
        reads, writes = ["value"], ["values"]

        def actions(self, state: Any, context: Any, inputs: Any) -> Any:
            yield from actions

        def state(self, state: Any, inputs: Any) -> Any:
            return state

        def reduce(self, state: Any, states: Any) -> Any:
            return state.update(values=[each["value"] for each in states])

    app = (
        ApplicationBuilder()
        .with_actions(all=All())
        .with_transitions(("all", "all"))
        .with_entrypoint("all")
        .with_state(value=0)
        .build()
    )
    return lambda: app.run(halt_after=["all"])[2]["values"]


# --- pydantic-graph -------------------------------------------------------------


def pydantic_chain(count: int) -> Run:
    graph, steps = pydantic_steps(count, output_type=int)
    nodes = (graph.start_node, *steps, graph.end_node)
    for before, after in zip(nodes, nodes[1:]):
        graph.add(graph.edge_from(before).to(after))
    return lambda built=graph.build(): built.run_sync(inputs=0)


def pydantic_fan_out(count: int) -> Run:
    from pydantic_graph import reduce_list_append

    graph, steps = pydantic_steps(count, output_type=list)
    join = graph.join(reduce_list_append, initial_factory=list)
    graph.add(
        graph.edge_from(graph.start_node).to(*steps),
        graph.edge_from(*steps).to(join),
        graph.edge_from(join).to(graph.end_node),
    )
    return lambda built=graph.build(): built.run_sync(inputs=0)


def pydantic_steps(count: int, output_type: type) -> tuple[Any, list[Any]]:
    from pydantic_graph import GraphBuilder

    graph = GraphBuilder(input_type=int, output_type=output_type)

    def step(name: str, func: Any) -> Any:
        async def call(context: Any) -> int:
            return func(context.inputs)

        return graph.step(call, node_id=name)

    functions = distinct_functions(count)
    return graph, [step(name, func) for name, func in functions.items()]


# --- dask -----------------------------------------------------------------------


def dask_chain(count: int) -> Run:
    from dask import delayed

    value = 0
    for func in distinct_functions(count).values():
        value = delayed(func)(value)
    return lambda: value.compute(scheduler="threads", optimize_graph=False)


def dask_fan_out(count: int) -> Run:
    from dask import delayed

    tasks = [delayed(func)(0) for func in distinct_functions(count).values()]
    return lambda: delayed(tasks).compute(scheduler="threads")


# --- transitions ----------------------------------------------------------------


class Model:
    value = 0


def transitions_chain(count: int) -> Run:
    from transitions import Machine, State

    model = Model()

    def entering(func: Any) -> Any:
        def enter() -> None:
            model.value = func(model.value)

        return enter

    functions = distinct_functions(count)
    states = [State(name, on_enter=entering(f)) for name, f in functions.items()]
    machine = Machine(model, states=["start", *states], initial="start")
    machine.add_ordered_transitions()

    def run() -> Any:
        model.value = 0
        machine.set_state("start")
        for _ in range(count):
            model.next_state()
        return model.value

    return run


# Distribution to what it can do.
PEERS = {
    "stepfunction": {"chain": asyncio_chain, "fan_out": asyncio_fan_out},
    "langgraph": {"chain": langgraph_chain, "fan_out": langgraph_fan_out},
    "burr": {"chain": burr_chain, "fan_out": burr_fan_out},
    "pydantic-graph": {"chain": pydantic_chain, "fan_out": pydantic_fan_out},
    "dask": {"chain": dask_chain, "fan_out": dask_fan_out},
    "transitions": {"chain": transitions_chain},
}
TITLES = {"stepfunction": "asyncio edition"}


def main(name: str, kind: str, count: int) -> None:
    try:
        title = f"{TITLES.get(name, name)} {version(name)}"
        run = PEERS[name][kind](count)
    except (PackageNotFoundError, ImportError):
        return
    expected = count if kind == "chain" else [1] * count
    assert (output := run()) == expected, output
    print(title, flush=True)
    for _ in sys.stdin:
        run()
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
