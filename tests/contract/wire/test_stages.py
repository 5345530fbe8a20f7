"""The stage times that a recommendation carries in a header."""

import pytest

from contract.wire.stages import STAGES, STAGES_HEADER, stages_of, stages_value


def test_the_times_are_milliseconds_in_the_order_of_the_stages():
    value = stages_value({"rank": 0.0021, "decode": 0.000_312})

    assert list(stages_of([(STAGES_HEADER, value)]).items()) == [("decode", 0.31), ("rank", 2.1)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'{"decode": "1"}',
        b"\xff",
        b'{"decode": -1}',
        b'{"x": 1}' + b" " * 600,
    ],
)
def test_a_header_that_cannot_be_read_tells_nothing(value):
    assert stages_of([("other", b"1"), (STAGES_HEADER, value)]) == {}


def test_an_unknown_stage_is_left_out():
    assert stages_of([(STAGES_HEADER, b'{"warp": 1.0, "fold": 0.5}')]) == {"fold": 0.5}
    assert "fold" in STAGES
