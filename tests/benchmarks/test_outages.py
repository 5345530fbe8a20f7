"""Which lines of a log count as errors, and which of them are about the broker."""

import json

from benchmarks.outages import ABOUT_BROKER, error_lines


def test_errors_are_found_in_our_lines_and_in_those_of_libraries(tmp_path):
    """A traceback counts once, a warning never; the broker's own log is not looked at."""
    lines = [
        json.dumps({"event": "bundle_refused", "level": "warning"}),
        json.dumps({"event": "log_replaced", "level": "error"}),
        json.dumps({"event": "process_failed", "level": "critical"}),
        "ERROR:aiokafka.consumer:Unable to connect to node 1",
        "Traceback (most recent call last):",
        '  File "somewhere.py", line 1',
    ]
    (tmp_path / "streams.log").write_text("\n".join(lines))
    (tmp_path / "broker.log").write_text("ERROR everything is on fire")
    found = list(error_lines(tmp_path))

    assert found == [f"streams: {line}" for line in lines[1:5]]


def test_only_errors_about_the_broker_are_expected():
    """An outage explains a lost connection, not a replaced log."""
    assert ABOUT_BROKER.search("streams: ERROR:aiokafka.consumer:Unable to connect to node 1")
    assert ABOUT_BROKER.search('trainer: {"event": "x", "text": "2/2 brokers are down"}')
    assert not ABOUT_BROKER.search('streams: {"event": "log_replaced", "level": "error"}')
