"""A check that fails, hangs or quotes a secret is one finding, and never a traceback."""

from threading import Event
from time import monotonic

import pytest

from contract.errors import BrokerUnavailable
from nextwatch.doctor.diagnosis import Diagnosis, PartHealth, examine
from nextwatch.doctor.report import is_healthy, summary


def finding(found="fine", health=PartHealth.OK):
    return Diagnosis(check="topics", what="x", health=health, found=found)


def examined(check, **options):
    return examine("topics", "contract", check, timeout_s=5.0, **options)


def test_what_was_found_before_a_check_broke_off_is_kept():
    def check():
        yield finding()
        raise BrokerUnavailable("no broker answered", remedy="start one")

    first, broken = examined(check)

    assert first.health is PartHealth.OK
    assert (broken.health, broken.found) == (PartHealth.WRONG, "no broker answered")
    assert broken.remedy == "start one"


def test_an_error_that_nobody_foresaw_is_a_finding_with_its_name():
    def check():
        raise ZeroDivisionError("by nought")
        yield

    [one] = examined(check)

    assert one.health is PartHealth.WRONG
    assert one.found == "ZeroDivisionError: by nought"


def test_a_check_that_hangs_ends_with_its_bound():
    never = Event()

    def check():
        yield finding()
        never.wait(20)

    began_s = monotonic()
    found = examine("topics", "contract", check, timeout_s=0.2)
    never.set()

    assert monotonic() - began_s < 5
    assert [one.health for one in found] == [PartHealth.OK, PartHealth.WRONG]


@pytest.mark.parametrize(
    "text", ["sent hunter2!", "s3://key:hunter2!@bucket/x", "https://AKIA:x@host/y"]
)
def test_no_secret_is_shown(text):
    """Also those that somebody wrote into a URL."""
    [one] = examined(lambda: [finding(text)], secrets=["hunter2!"])

    assert "hunter2!" not in one.found
    assert "AKIA" not in one.found


def test_control_characters_are_escaped():
    [one] = examined(lambda: [finding("a\x1b[2Jb\u202e")])

    assert one.found == r"a\x1b[2Jb\u202e"


@pytest.mark.parametrize("health", list(PartHealth))
def test_only_what_is_wrong_makes_the_exit_code_1(health):
    found = [finding(), finding(health=health)]

    assert is_healthy(found) is (health is not PartHealth.WRONG)
    assert summary(found).startswith("nothing") is is_healthy(found)
