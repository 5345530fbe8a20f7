"""The figures of an hour with the console open, and when its command fails."""

from argparse import ArgumentTypeError

import pytest

from benchmarks.console.endurance import figures_of, is_right, minutes

FLAT = {"1": 100.0, "10": 100.0, "30": 100.0, "end": 101.0}
PAGES = {
    "clicks": 3,
    "answered": 3,
    "page_heap_mb": {"viewer": [2.0, 2.0, 2.1]},
    "page_nodes": {"viewer": [900, 900, 900]},
}


def of_demo(**changed):
    """Return what the demo prints of a good hour, with *changed* fields of it."""
    return {
        "minutes": [{"p50": 40.0, "p99": 90.0}, {"p50": 8.0, "p99": 20.0}],
        "startup_s": 13.0,
        "events_in": 100,
        "answered": 100,
        "lost": 0,
        "lost_uploads": 0,
        "generations_served": 9,
        "restarts": {},
        "interrupted": False,
        "error": None,
        "event_to_recommendation_ms": {"p50": 8.0},
        "memory_mb": {"streams": FLAT},
        "cpu_percent": {"streams": {"run": 20.0}},
    } | changed


def figures(*, num_minutes=60.0, **changed):
    """Return the figures of a run whose demo printed *changed* fields."""
    return figures_of(of_demo(**changed), PAGES, num_minutes)


def test_an_hour_within_the_bounds_is_right():
    """The first minute, in which the system starts, is not held to the bound."""
    found = figures()

    assert found["growth"] == {"streams": 0.01, "page of the viewer": 0.05}
    assert (found["worst_p50_ms"], found["grown"], found["gone"]) == (8.0, [], [])
    assert is_right(found, most_ms=15.0)
    assert not is_right(found, most_ms=7.0)


def test_memory_that_has_grown_since_the_warm_up_is_named():
    found = figures(memory_mb={"streams": FLAT | {"end": 110.0}})

    assert found["grown"] == ["streams"]
    assert not is_right(found, most_ms=15.0)


def test_a_short_run_has_no_growth_of_processes():
    """It has nothing to compare with: that would be no growth whatever the process took."""
    found = figures(num_minutes=2.0, memory_mb={"streams": {"1": 100.0, "end": 300.0}})

    assert found["growth"] == {"page of the viewer": 0.05}


def test_a_process_that_is_gone_at_the_end_is_named():
    """Its figures, and those of the others, are printed all the same."""
    found = figures(memory_mb={"streams": FLAT, "trainer": {"1": 900.0, "10": 950.0}})

    assert (found["gone"], list(found["growth"])) == (
        ["trainer"],
        ["streams", "page of the viewer"],
    )
    assert not is_right(found, most_ms=15.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"restarts": {"streams": 1}},
        {"error": "the broker ended with 1"},
        {"interrupted": True},
        {"lost": 1},
        {"lost_uploads": 1},
        {"minutes": []},
        {"minutes": [{"p50": None, "p99": None}]},
    ],
)
def test_a_run_that_failed_is_not_right(changed):
    """A process that was restarted has the memory of its last minutes alone."""
    assert not is_right(figures(**changed), most_ms=15.0)


@pytest.mark.parametrize("given", ["0", "-1", "0.5", "nan", "inf", "an hour"])
def test_a_length_in_which_nothing_is_measured_is_refused(given):
    with pytest.raises((ValueError, ArgumentTypeError)):
        minutes(given)
