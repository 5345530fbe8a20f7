"""The table of keys numbers equal keys alike and finds what is there."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.features.key_table import KeyTable

keys = st.lists(st.integers(0, 2**62), max_size=60)
few_keys = st.lists(st.integers(0, 5), max_size=60)


@given(keys | few_keys, keys | few_keys)
def test_it_finds_exactly_the_keys_that_are_there(held, wanted):
    """As a dictionary would, whatever collides."""
    held_K, wanted_M = np.array(held, np.int64), np.array(wanted + held, np.int64)

    number_M = KeyTable(held_K).find(wanted_M)

    assert (number_M >= 0).tolist() == [key in set(held) for key in wanted_M.tolist()]
    found = number_M >= 0
    assert held_K[number_M[found]].tolist() == wanted_M[found].tolist()


@given(keys | few_keys)
def test_equal_keys_have_one_number(held):
    """So that counts can be summed up by it."""
    number_K = KeyTable(np.array(held, np.int64)).number_K.tolist()

    assert len(set(number_K)) == len(set(held))
    assert len(set(zip(held, number_K, strict=True))) == len(set(held))
