"""Every case of the corpus with its outcome; tests/e2e/test_bad_input.py runs it on a stack."""

import json
from pathlib import Path

import pytest

from contract.wire.dead_letters import REASONS
from contract.wire.events import Search, UserDeletion, Watch
from models.history.history import EMPTY, WindowPolicy, fold
from tests.support.bad_input import CORPUS, corpus, judged

CASES = corpus()
SINGLE = [case for case in CASES if "-" not in case.id or not case.id.rpartition("-")[2].isdigit()]


@pytest.mark.parametrize("case", SINGLE, ids=[case.id for case in SINGLE])
def test_each_case_comes_out_as_expected(case):
    """Accepted, or refused for the one reason that the corpus names."""
    event, reason = judged(case)

    assert (event is None, reason) == (case.expect == "DLQ", case.reason)


def test_windows_change_by_the_cases_that_say_so_and_no_others():
    """Played in order, through the fold that the worker uses."""
    windows, policy, wrong = {}, WindowPolicy(), []
    for case in CASES:
        event, _reason = judged(case)
        if isinstance(event, Watch | Search | UserDeletion):
            before = windows.get(event.user_id, EMPTY)
            windows[event.user_id] = fold(before, [event], policy)
            is_change = windows[event.user_id] != before
            wrong += [case.id] if case.is_change not in (None, is_change) else []
        else:
            wrong += [case.id] if case.is_change else []

    assert wrong == []


def test_the_corpus_speaks_of_every_number_of_its_groups():
    """A case that does not apply has a note that says why; none is passed over in silence."""
    lines = [json.loads(line) for line in CORPUS.read_text().splitlines()]
    named = {"".join(c for c in line["id"][1:4] if c.isdigit()) for line in lines}
    named |= {"".join(c for c in case.id[1:4] if c.isdigit()) for case in CASES}

    assert {str(n) for n in (*range(1, 136), *range(165, 170))} <= named
    assert all(line["note"] for line in lines if line["expect"] == "N/A")
    assert len({case.id for case in CASES}) == len(CASES)


def test_every_reason_is_in_the_table_and_every_word_of_the_table_has_a_case():
    """But for what needs more than the record: a place, or what index_sync knows of vectors."""
    given = {case.reason.partition(":")[0] for case in CASES if case.reason}
    of_vectors = {"generation_unknown", "vector_dim", "vector_norm"}

    assert given == REASONS.keys() - of_vectors - {"misplaced"}


def test_nothing_was_unpickled():
    """The pickles of the corpus would have left a file here."""
    for case in CASES:
        if case.id.startswith("A23"):
            judged(case)

    assert not Path("nextwatch-was-here").exists()
