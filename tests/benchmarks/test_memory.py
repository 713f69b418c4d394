"""The budget of a build is kept: what it may take at least is more than what it takes."""

from benchmarks.memory import measured


def test_a_build_in_the_least_memory_with_which_it_begins_stays_within_it():
    peak = measured(40_000, 8192, budget=0)
    assert peak["before_bytes"] + 100_000_000 < peak["own_bytes"] <= peak["budget_bytes"] < peak["before_bytes"] + 7.6e8
