"""Find the videos that match a fresh search, and give them a share of the list.

A vector of taste finds what is *like* a query, and what everybody watches may outweigh it. So the
videos whose text bears the words of a fresh query are candidates of their own, and the best of them
come first. How many is a share of the list, which halves with every watch that
follows the search, as the taste takes over again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int8, Int64

from contract.wire.words import HOTTEST, SEARCH, SEEN_AGAIN, SIMILAR, SOURCES, TRENDING
from models.features.examples import CompletionRule
from models.features.ranking_features import small_code
from models.serving.items import ItemStore
from streams.serving.candidates import UserCandidates
from streams.serving.requests import Request
from streams.serving.text_index import TextIndex

# Shape legend: B = users, C = candidates, R = matches, S = watches of one user.

MAX_AGE_MS = 30 * 60_000
"""A search that lies further back than this, from the answer, is fresh no longer."""
MAX_MATCHES = 100
SOURCE_NAMES = tuple(SOURCES)
SOURCE_CODE_S = np.array([small_code(name) for name in SOURCE_NAMES])
"""The code of each source, as rankers read it."""
_NUMBER_OF = {name: number for number, name in enumerate(SOURCE_NAMES)}
_GRADES = 10
"""Matches are compared by tenths of their score; within a tenth the ranker decides."""


@dataclass(frozen=True, slots=True)
class SearchMatches:
    """The rows that match the fresh query of one user, and how many places they are given."""

    rows: Int64[np.ndarray, "R"]
    score_R: Float[np.ndarray, "R"]
    num_places: int


NOTHING = SearchMatches(np.zeros(0, np.int64), np.zeros(0), 0)


class SearchMatcher:
    """Finds the matches of fresh searches; with a *share* of 0, none."""

    def __init__(self, index: TextIndex, *, share: float, num_recommended: int) -> None:
        self._index = index
        self._share = share
        self._num_recommended = num_recommended

    def matches(
        self,
        requests: Sequence[Request],
        items: ItemStore,
        seen: Sequence[Int[np.ndarray, "S"]],
        completion: CompletionRule,
    ) -> list[SearchMatches]:
        """Return the matches of each user, without the rows *seen* by that user."""
        return [
            self._matches(request, items, my_seen, completion)
            for request, my_seen in zip(requests, seen, strict=True)
        ]

    def _matches(
        self,
        request: Request,
        items: ItemStore,
        seen: Int[np.ndarray, "S"],
        completion: CompletionRule,
    ) -> SearchMatches:
        num_places = round(freshness(request, completion) * self._share * self._num_recommended)
        if not num_places:
            return NOTHING
        found = self._index.find(request.window.searches[-1].query, MAX_MATCHES)
        if not found:
            return NOTHING
        rows = items.rows([video_id for video_id, _ in found]).astype(np.int64)
        score_R = np.array([score for _, score in found])
        is_kept_R = (rows > 0) & ~np.isin(rows, seen)
        return SearchMatches(rows[is_kept_R], score_R[is_kept_R], num_places)


def freshness(request: Request, completion: CompletionRule) -> float:
    """Return 1 if no watch followed the newest search, half as much with every one that did.

    Skips do not count as watches. It is 0 without a search, or when it is too long ago.
    """
    window = request.window
    if not window.searches:
        return 0.0
    searched = window.searches[-1]
    if request.now_ms - searched.event_time_ms > MAX_AGE_MS:
        return 0.0
    num_since = 0
    for watch in reversed(window.watches):
        if watch.event_time_ms <= searched.event_time_ms:
            break
        num_since += not completion.is_skipped(watch.watch_ms, watch.duration_ms)
    return float(0.5**num_since)


def with_matches(
    rows: Sequence[Int64[np.ndarray, "C"]], matches: Sequence[SearchMatches]
) -> list[Int64[np.ndarray, "C"]]:
    """Return the candidates of each user, with the matches that are not among them at the end."""
    return [
        np.concatenate([mine, found.rows[~np.isin(found.rows, mine)]]) if len(found.rows) else mine
        for mine, found in zip(rows, matches, strict=True)
    ]


def put_first(
    score_BC: Float[np.ndarray, "B C"],
    rows_BC: Int64[np.ndarray, "B C"],
    matches: Sequence[SearchMatches],
) -> tuple[Float[np.ndarray, "B C"], list[Int64[np.ndarray, "R"]]]:
    """Return scores that put the best matches first, and their columns, for each user.

    They come to lie above the best of all other scores, and at most 1 above it, so that the order
    of a list is still that of its scores.
    """
    score_BC = score_BC.copy()
    columns: list[Int64[np.ndarray, R]] = []
    for user, found in enumerate(matches):
        if not len(found.rows):
            columns.append(found.rows)
            continue
        grade_of = dict(zip(found.rows.tolist(), np.round(found.score_R * _GRADES), strict=True))
        of_user_C = score_BC[user]
        at = np.flatnonzero(np.isin(rows_BC[user], found.rows))
        grades = np.array([grade_of[row] for row in rows_BC[user, at].tolist()])
        best = at[np.lexsort((-of_user_C[at], -grades))][: found.num_places]
        is_other_C = np.ones(len(of_user_C), bool)
        is_other_C[best] = False
        others = of_user_C[is_other_C & np.isfinite(of_user_C)]
        top = others.max() if len(others) else 0.0
        of_user_C[best] = top + 1.0 - np.arange(len(best)) / max(len(best), 1)
        columns.append(best)
    return score_BC, columns


def source_numbers(
    shape: tuple[int, ...], candidates: UserCandidates, near: str
) -> Int8[np.ndarray, "B C"]:
    """Return the place in `SOURCE_NAMES` of the source of each candidate; added rows are matches.

    Matches that were found otherwise too have the other source: which of them come first is known
    only after ranking.
    """
    size_B = np.array([len(rows) for rows in candidates.rows], np.int64)
    found = (candidates.num_near, candidates.num_similar, candidates.num_hottest)
    usual = (near, SIMILAR, HOTTEST, TRENDING, SEARCH)
    # candidates stand in the order of their sources, and the padding behind them
    count_BS = np.column_stack([*found, size_B - np.sum(found, axis=0), shape[1] - size_B])
    source_BS = np.tile(np.array(list(map(_NUMBER_OF.get, usual)), np.int8), (len(size_B), 1))
    source_BS[np.array(candidates.is_again, np.bool_), usual.index(TRENDING)] = _NUMBER_OF[
        SEEN_AGAIN
    ]
    return np.repeat(source_BS.ravel(), count_BS.ravel()).reshape(shape)


def with_first(
    number_BC: Int8[np.ndarray, "B C"], first: Sequence[Int64[np.ndarray, "R"]]
) -> Int8[np.ndarray, "B C"]:
    """Return the sources with those of the columns that are put *first*: the search."""
    number_BC = number_BC.copy()
    for user, columns in enumerate(first):
        number_BC[user, columns] = _NUMBER_OF[SEARCH]
    return number_BC
