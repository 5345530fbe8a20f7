"""Encode the training state as the files of a checkpoint, and decode it.

Arrays are safetensors, the rest is JSON and MessagePack.

What is here and what the offsets of the same checkpoint say belong together: a restart that
reads on from those offsets repeats no example and skips none.

`snapshot` copies what learning goes on to change, which takes milliseconds; the rest of the work,
writing and hashing, is done beside learning (`trainer.state.saving`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
import structlog

from contract.errors import ContractError
from contract.process.atomic_write import Content
from models.features.vocabulary import Vocabulary
from models.history.history import WatchEntry
from trainer.config_file import check_same
from trainer.input.windows import WindowsSnapshot
from trainer.ranking.examples import RankingExample
from trainer.state.training_state import Pending, TrainingState

log = structlog.get_logger()

LEARNER = "learner.safetensors"
LEARNER_META = "learner.json"
WINDOWS = "windows.msgpack"
"""The base of the windows; many checkpoints share it."""
WINDOWS_SINCE = "windows_since.msgpack"
POPULARITY = "popularity.safetensors"
PROGRESSIVE = "progressive.safetensors"
VIEWERS = "viewers.safetensors"
REST = "study.msgpack"
RANKER = "ranker.safetensors"
GUARD = "guard.safetensors"
CONFIGURATION = "configuration.json"
JOINER = "joiner"
"""The directory of the joiner's store in a checkpoint."""


class _Rest(msgspec.Struct):
    pending: Pending
    video_ids: list[str]
    counts: dict[str, int]
    touched: dict[int, list[str]]
    loss: float
    waiting: list[tuple[str, WatchEntry]] = []
    pending_ranking: list[RankingExample] = []
    touched_before_others: dict[int, int] = {}


class NotFiniteError(ValueError):
    """What was learned has numbers that are not finite."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one moment; nothing in it changes any more."""

    arrays: dict[str, dict[str, np.ndarray]]
    learner_meta: dict[str, Any]
    windows: WindowsSnapshot
    rest: bytes
    configuration: bytes = b"{}"

    @property
    def shared(self) -> tuple[str, ...]:
        """The names of the files that are those of the checkpoint before."""
        return (WINDOWS,) if self.windows.base is None else ()

    def files(self) -> dict[str, Content]:
        """Return the files of the checkpoint, without those that are shared.

        Arrays are written straight from the copies: as bytes they would be in memory three times.

        Raises:
            NotFiniteError: it has numbers that are not finite, and must not be gone back to.
        """
        check_finite(self.arrays)
        files: dict[str, Content] = {
            # not msgspec: the state of a random generator may have integers of 128 bits
            LEARNER_META: json.dumps(self.learner_meta, allow_nan=False).encode(),
            WINDOWS_SINCE: self.windows.encode_changes(),
            CONFIGURATION: self.configuration,
            REST: self.rest,
            **{name: partial(_write_arrays, arrays) for name, arrays in self.arrays.items()},
        }
        return (
            files if self.windows.base is None else {WINDOWS: self.windows.encode_base(), **files}
        )


def _write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    try:
        safetensors.numpy.save_file(dict(arrays), path)
    except safetensors.SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def check_finite(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Check that the weights and moments among *arrays* are finite.

    Raises:
        NotFiniteError: some are not; the text names them.
    """
    bad = [
        f"{file}: {name}"
        for file in (LEARNER, RANKER)
        for name, array in arrays.get(file, {}).items()
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    if bad:
        raise NotFiniteError(f"not finite: {', '.join(bad)}")


def snapshot(state: TrainingState) -> Snapshot:
    """Return copies of everything in *state* that its next change would change."""
    arrays, meta = state.learner.state()
    rest = _Rest(
        pending=state.pending,
        video_ids=state.learner.vocabulary.video_ids,
        counts=dict(state.counts),
        touched=state.touched.video_ids(),
        touched_before_others=state.touched.num_before_others(),
        loss=state.loss,
        waiting=state.waiting.all(),
        pending_ranking=state.pending_ranking + (state.joiner.examples if state.joiner else []),
    )
    by_file = {
        LEARNER: arrays,
        POPULARITY: state.popularity.state(),
        PROGRESSIVE: state.progressive.state(),
        VIEWERS: state.viewers.state(),
    }
    if state.ranker is not None:
        by_file[RANKER] = state.ranker.state()
    if state.guard is not None:
        by_file[GUARD] = state.guard.state()
    configuration = msgspec.json.encode(state.configuration)
    encoded = msgspec.msgpack.encode(rest)
    return Snapshot(by_file, meta, state.windows.snapshot(), encoded, configuration)


def directories(state: TrainingState) -> dict[str, Callable[[Path], None]]:
    """Return what makes the directories of a checkpoint of *state*, by their names."""
    return {} if state.joiner is None else {JOINER: state.joiner.save}


def restore(
    state: TrainingState, files: Mapping[str, bytes], directories: Mapping[str, Path] = {}
) -> None:
    """Restore the state in *files* into a fresh *state*, with clocks that are not ahead.

    A checkpoint without the directory of the joiner, as one of before, has nothing to join.

    Raises:
        ContractError: the files are of other code, or of another configuration of the model.
    """
    if CONFIGURATION in files:  # checkpoints of 0.2 have none
        check_same(msgspec.json.decode(files[CONFIGURATION]), state.configuration)
    try:
        rest = msgspec.msgpack.decode(files[REST], type=_Rest)
        state.learner.load_state(
            safetensors.numpy.load(files[LEARNER]), json.loads(files[LEARNER_META])
        )
        _check_videos(rest.video_ids, state.learner.vocabulary)
        state.windows.load(files[WINDOWS], files.get(WINDOWS_SINCE))
        state.popularity.load_state(safetensors.numpy.load(files[POPULARITY]))
        state.progressive.load_state(safetensors.numpy.load(files[PROGRESSIVE]))
        if VIEWERS in files:  # checkpoints of 0.2 have none
            state.viewers.load_state(safetensors.numpy.load(files[VIEWERS]))
        if state.ranker is not None and RANKER in files:
            state.ranker.load_state(safetensors.numpy.load(files[RANKER]))
        if state.guard is not None and GUARD in files:
            state.guard.load_state(safetensors.numpy.load(files[GUARD]))
    except (KeyError, ValueError, msgspec.MsgspecError, safetensors.SafetensorError) as error:
        raise ContractError(
            f"the checkpoint is of other code or of another configuration: {error!r}; move the "
            "directory of the checkpoints away to start over"
        ) from error
    state.pending = rest.pending
    state.counts.update(rest.counts)
    state.touched.load(rest.touched, rest.touched_before_others)
    state.loss = rest.loss
    state.waiting.load(rest.waiting)
    state.pending_ranking = rest.pending_ranking
    if state.joiner is not None:
        state.joiner.load(directories.get(JOINER))
    if state.turn_back():
        log.warning("clocks_turned_back")


def check_usable(files: Mapping[str, bytes]) -> None:
    """Check that the weights in *files* are finite: a state that is not must not be gone back to.

    Raises:
        NotFiniteError: some are not.
        ValueError: a file cannot be read.
    """
    names = [name for name in (LEARNER, RANKER) if name in files]
    try:
        check_finite({name: safetensors.numpy.load(files[name]) for name in names})
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error


def _check_videos(counted: list[str], vocabulary: Vocabulary) -> None:
    if counted != vocabulary.video_ids:
        raise ContractError("the checkpoint's counters are not of the videos of its model")
