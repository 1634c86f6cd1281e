from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stepfunction.core.definition.dominance import Dominance


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=8, max_size=8),
    st.integers(0, 7),
)
def test_a_node_dominates_what_is_lost_without_it(arrows, start):
    def reach(without=None):
        found, waiting = set(), [start]
        while waiting:
            node = waiting.pop()
            if node != without and node not in found:
                found.add(node)
                waiting += arrows[node]
        return found

    dominance = Dominance(arrows, start)
    assert {node for node in range(8) if dominance.reaches(node)} == reach()
    for node in range(8):
        for target in reach():
            assert dominance.holds(node, target) is (target not in reach(node))
