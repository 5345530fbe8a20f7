"""Windows that were written with another number of partitions are not taken for those of nobody."""

import re

import pytest

from contract.errors import ContractError
from contract.keys import partition_of
from streams.partition_count import placement_check, remember_count

USERS = [f"u{number}" for number in range(60)]


def windows_of(number, count):
    """Return the windows that a partition has among *count*, as a store gives them."""
    return [(user, b"window") for user in USERS if partition_of(user.encode(), count) == number]


def test_the_count_is_remembered_beside_the_windows(tmp_path):
    remember_count(tmp_path, 4)
    remember_count(tmp_path, 4)

    with pytest.raises(ContractError, match="USER_PARTITIONS=6, and the windows in") as refused:
        remember_count(tmp_path, 6)
    assert "written with 4: set it to 4; or, once `nextwatch repartition 6`" in str(refused.value)


@pytest.mark.parametrize("number", range(4))
def test_windows_where_they_belong_are_taken(number):
    placement_check(4)(number, windows_of(number, 4))


@pytest.mark.parametrize("number", range(4))
def test_windows_of_another_count_are_refused_where_the_directory_was_lost(number):
    """They were read back from a changelog that was given more partitions by hand."""
    written = windows_of(number, 4)

    with pytest.raises(ContractError, match=r"\d+ of \d+ windows of partition") as refused:
        placement_check(6)(number, written)
    assert "nextwatch repartition 6" in str(refused.value)
    assert not re.search(r"\bu\d", str(refused.value)), "no user is named"


def test_an_empty_partition_is_taken():
    placement_check(6)(5, [])
