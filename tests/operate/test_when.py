"""Times as people write them."""

import pytest

from nextwatch.operate.when import ago, moment, shown
from tests.support.builders import T0


@pytest.mark.parametrize(
    ("text", "wanted_ms"),
    [
        ("90s", T0 - 90_000),
        ("15m", T0 - 900_000),
        ("2h", T0 - 7_200_000),
        ("3d", T0 - 259_200_000),
        ("2023-11-14", 1_699_920_000_000),
        ("2023-11-14T22:13:20", T0),
        ("2023-11-14T22:13:20Z", T0),
        ("2023-11-15T00:13:20+02:00", T0),
        (str(T0), T0),
    ],
)
def test_a_time_is_ago_or_iso_in_utc_or_milliseconds(text, wanted_ms):
    assert ago(text, now_ms=T0) == wanted_ms


@pytest.mark.parametrize("text", ["", "2 weeks", "yesterday", "²", "h"])
def test_an_invalid_time_is_rejected_with_the_valid_forms(text):
    with pytest.raises(ValueError, match="write 2h"):
        ago(text, now_ms=T0)


def test_a_formatted_time_can_be_parsed_again():
    assert (shown(T0), moment(shown(T0))) == ("2023-11-14T22:13:20Z", T0)


def test_a_number_that_is_not_a_time_is_shown_as_a_number():
    assert shown(10**18) == str(10**18)
