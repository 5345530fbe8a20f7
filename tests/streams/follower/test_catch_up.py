"""When the tail has read what there was at its start."""

import pytest

from streams.follower.catch_up import CatchUp

VECTORS, UPLOADS = ("item-vectors", 0), ("video-uploads", 1)


@pytest.fixture
def catch_up():
    catch_up = CatchUp()
    catch_up.expect([VECTORS, UPLOADS])
    return catch_up


def test_a_partition_is_read_when_its_end_is_reported(catch_up):
    """Also an empty one, which has no record that could tell."""
    catch_up.note_end(VECTORS)

    assert (catch_up.is_unread("item-vectors"), catch_up.is_unread("video-uploads")) == (
        False,
        True,
    )
    assert catch_up.is_unread()


def test_a_partition_written_all_the_time_is_read_to_the_end_it_had_at_the_start(catch_up):
    """Where somebody writes all the time, its end may never be told."""
    for offset in range(3):
        assert catch_up.is_unread("item-vectors")
        catch_up.note_record(VECTORS, offset, lambda offset=offset: 3 + offset)

    assert not catch_up.is_unread("item-vectors")


def test_a_record_behind_a_marker_is_behind_the_end_as_well(catch_up):
    """The last offset before the end may have no record: a marker of a transaction has it."""
    catch_up.note_record(VECTORS, 1, lambda: 4)
    assert catch_up.is_unread("item-vectors")

    catch_up.note_record(VECTORS, 7, lambda: 8)
    assert not catch_up.is_unread("item-vectors")


def test_an_end_that_is_not_known_yet_is_asked_for_again(catch_up):
    """And is no end at 0."""
    catch_up.note_record(VECTORS, 5, lambda: -1001)
    assert catch_up.is_unread("item-vectors")

    catch_up.note_record(VECTORS, 6, lambda: 7)
    assert not catch_up.is_unread("item-vectors")


def test_the_reason_names_what_is_unread_and_is_gone_when_all_is_in_service():
    """Whoever waits for it is told."""
    told = []
    catch_up = CatchUp(on_end=lambda: told.append("over"))
    catch_up.expect([UPLOADS, *(("item-vectors", number) for number in range(4))])
    assert catch_up.reason == (
        "not yet read to the end: item-vectors/0, item-vectors/1, item-vectors/2 and 2 more"
    )

    for place in (UPLOADS, *(("item-vectors", number) for number in range(4))):
        catch_up.note_end(place)
    assert "not in service" in catch_up.reason

    catch_up.end()
    assert (catch_up.reason, told) == ("", ["over"])
