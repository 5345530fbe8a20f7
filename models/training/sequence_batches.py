"""Cut histories into slices and pack them into arrays (torch; training only).

A slice is what a tower reads at once; the label of each of its watches is the one that follows.
Cuts lie elsewhere in every epoch, so that no watch stands at the start of a slice for ever.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Integer
from torch import Tensor

# Shape legend: B = slices, T = watches.

_JITTER = 8.0
"""How many watches the lengths of slices in one batch may differ by, so that batches differ."""


class WatchSequence(NamedTuple):
    """What one user watched, oldest first: rows of the catalogue, and which were completed."""

    rows_T: Integer[np.ndarray, "T"]
    is_completed_T: Bool[np.ndarray, "T"]


class SequenceBatch(NamedTuple):
    """Slices as arrays, padding (row 0) in front; label 0 where there is nothing to learn."""

    rows_BT: Integer[Tensor, "B T"]
    is_completed_BT: Bool[Tensor, "B T"]
    label_BT: Integer[Tensor, "B T"]


class Slice(NamedTuple):
    """The watches of *history* from *start* to before *end* are read; *end* is the last label."""

    history: WatchSequence
    start: int
    end: int


def batches(
    slices: Sequence[Slice], size: int, rng: np.random.Generator, *, unfinished_share: float = 0.0
) -> Iterator[SequenceBatch]:
    """Yield *slices* in batches of *size*: alike in length within a batch, batches in any order.

    Labels are the completed watches, and that share of the others by lot.
    """
    jitter = rng.random(len(slices)) * _JITTER
    order = np.argsort([one.end - one.start for one in slices] + jitter)
    for first in rng.permutation(np.arange(0, len(slices), size)):
        yield _packed([slices[at] for at in order[first : first + size]], rng, unfinished_share)


def cut(
    histories: Sequence[WatchSequence],
    length: int,
    rng: np.random.Generator,
    *,
    most: int | None = None,
) -> list[Slice]:
    """Return slices of up to *length* watches that have every label once.

    With *most*, only so many of one user, by lot.
    """
    slices: list[Slice] = []
    for history in histories:
        last = len(history.rows_T) - 1
        if last < 1:
            continue
        first_cut = int(rng.integers(1, length + 1)) if last > length else last
        pairs = list(pairwise(sorted({0, *range(first_cut, last, length), last})))
        if most is not None and len(pairs) > most:
            pairs = [pairs[at] for at in rng.choice(len(pairs), most, replace=False)]
        slices += [Slice(history, start, end) for start, end in pairs]
    return slices


def _packed(
    slices: Sequence[Slice], rng: np.random.Generator, unfinished_share: float
) -> SequenceBatch:
    width = max(one.end - one.start for one in slices)
    rows_BT, label_BT = (np.zeros((len(slices), width), np.int64) for _ in range(2))
    is_completed_BT = np.zeros((len(slices), width), bool)
    for at, ((rows_T, is_completed_T), start, end) in enumerate(slices):
        place = slice(width - (end - start), None)
        rows_BT[at, place] = rows_T[start:end]
        is_completed_BT[at, place] = is_completed_T[start:end]
        is_label_T = is_completed_T[start + 1 : end + 1]
        if unfinished_share:
            is_label_T = is_label_T | (rng.random(end - start) < unfinished_share)
        is_label_T = is_label_T & ~_is_repeated(rows_T[start : end + 1])[1:]
        label_BT[at, place] = np.where(is_label_T, rows_T[start + 1 : end + 1], 0)
    return SequenceBatch(*map(torch.from_numpy, (rows_BT, is_completed_BT, label_BT)))


def _is_repeated(rows_T: Integer[np.ndarray, "T"]) -> Bool[np.ndarray, "T"]:
    """Return which watches repeat an earlier video, which would not be recommended again."""
    is_repeated_T = np.ones(len(rows_T), bool)
    is_repeated_T[np.unique(rows_T, return_index=True)[1]] = False
    return is_repeated_T
