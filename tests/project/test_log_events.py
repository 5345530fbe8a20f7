"""Log lines are an interface: the same fact has one name and the same fields in every process."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("contract", "models", "streams", "trainer", "index_sync", "nextwatch")
OTHER_WORDS_FOR_REASON = {"why", "error", "cause", "exception"}
FIELDS = {
    "record_dead_lettered": {"topic", "partition", "offset", "reason"},
    "bundle_refused": {"bundle_id", "reason"},
    "bundle_postponed": {"bundle_id", "reason", "retry_s"},
    "fetch_failed": {"topic", "partition", "reason"},
    "process_failed": {"reason", "code", "exc_info"},
}


def log_calls():
    """Yield the place, the event and the fields of each call with an event and fields."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if is_log_call(node):
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                    place = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield place, node.args[0].value, fields


def is_log_call(node):
    """Return whether *node* is a call like ``log.warning("event", ...)``, or of ``tell``."""
    if not isinstance(node, ast.Call) or not node.args:
        return False
    function = node.func
    is_of_log = (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "log"
    )
    is_tell = isinstance(function, ast.Name) and function.id == "tell"
    first = node.args[0]
    return (
        (is_of_log or is_tell) and isinstance(first, ast.Constant) and isinstance(first.value, str)
    )


def test_the_cause_of_a_fact_is_called_reason():
    misnamed = [place for place, _, fields in log_calls() if fields & OTHER_WORDS_FOR_REASON]

    assert misnamed == []


def test_facts_that_several_processes_tell_have_the_same_fields():
    told = defaultdict(set)
    for _, event, fields in log_calls():
        told[event].add(frozenset(fields))

    assert {event: told[event] for event in FIELDS} == {
        event: {frozenset(fields)} for event, fields in FIELDS.items()
    }


def test_retired_names_do_not_come_back():
    """Alerts are built on the names; `docs/upgrading.md` has the new ones."""
    retired = {
        *("event_dead_lettered", "index_away", "index_went_away", "tail_error"),
        *("streams_failed", "process_ends", "worker_started", "worker_stopped"),
    }

    assert retired.isdisjoint(event for _, event, _ in log_calls())
