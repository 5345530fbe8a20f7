"""Encode the training state as the files of a checkpoint, and decode it.

Arrays are safetensors, the rest is JSON and MessagePack.

What is here and what the offsets of the same checkpoint say belong together: a restart that
reads on from those offsets repeats no example and skips none.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import safetensors
import safetensors.numpy
import structlog

from contract.errors import ContractError
from models.features.vocabulary import Vocabulary
from models.history.history import WatchEntry
from trainer.ranking.examples import RankingExample
from trainer.state.training_state import Pending, TrainingState

log = structlog.get_logger()

LEARNER = "learner.safetensors"
LEARNER_META = "learner.json"
WINDOWS = "windows.msgpack"
POPULARITY = "popularity.safetensors"
PROGRESSIVE = "progressive.safetensors"
VIEWERS = "viewers.safetensors"
REST = "study.msgpack"
RANKER = "ranker.safetensors"
GUARD = "guard.safetensors"
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


def to_files(state: TrainingState) -> dict[str, bytes]:
    """Return *state* as named files."""
    arrays, meta = state.learner.state()
    rest = _Rest(
        pending=state.pending,
        video_ids=state.learner.vocabulary.video_ids,
        counts=dict(state.counts),
        touched={generation: list(videos) for generation, videos in state.touched.items()},
        loss=state.loss,
        waiting=state.waiting.all(),
        pending_ranking=state.pending_ranking + (state.joiner.examples if state.joiner else []),
    )
    ranker = {} if state.ranker is None else {RANKER: safetensors.numpy.save(state.ranker.state())}
    labels = {} if state.guard is None else state.guard.labels.state()
    guard = {GUARD: safetensors.numpy.save(labels)} if labels else {}
    return (
        ranker
        | guard
        | {
            LEARNER: safetensors.numpy.save(arrays),
            # not msgspec: the state of a random generator may have integers of 128 bits
            LEARNER_META: json.dumps(meta, allow_nan=False).encode(),
            WINDOWS: state.windows.encoded(),
            POPULARITY: safetensors.numpy.save(state.popularity.state()),
            PROGRESSIVE: safetensors.numpy.save(state.progressive.state()),
            VIEWERS: safetensors.numpy.save(state.viewers.state()),
            REST: msgspec.msgpack.encode(rest),
        }
    )


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
    try:
        rest = msgspec.msgpack.decode(files[REST], type=_Rest)
        state.learner.load_state(
            safetensors.numpy.load(files[LEARNER]), json.loads(files[LEARNER_META])
        )
        _check_videos(rest.video_ids, state.learner.vocabulary)
        state.windows.load(files[WINDOWS])
        state.popularity.load_state(safetensors.numpy.load(files[POPULARITY]))
        state.progressive.load_state(safetensors.numpy.load(files[PROGRESSIVE]))
        if VIEWERS in files:  # checkpoints of 0.2 have none
            state.viewers.load_state(safetensors.numpy.load(files[VIEWERS]))
        if state.ranker is not None and RANKER in files:
            state.ranker.load_state(safetensors.numpy.load(files[RANKER]))
        if state.guard is not None and GUARD in files:
            state.guard.labels.load_state(safetensors.numpy.load(files[GUARD]))
    except (KeyError, ValueError, msgspec.MsgspecError, safetensors.SafetensorError) as error:
        raise ContractError(
            f"the checkpoint is of other code or of another configuration: {error!r}; move the "
            "directory of the checkpoints away to start over"
        ) from error
    state.pending = rest.pending
    state.counts.update(rest.counts)
    state.touched = {
        generation: OrderedDict.fromkeys(videos) for generation, videos in rest.touched.items()
    }
    state.loss = rest.loss
    state.waiting.load(rest.waiting)
    state.pending_ranking = rest.pending_ranking
    if state.joiner is not None:
        state.joiner.load(directories.get(JOINER))
    if state.turn_back():
        log.warning("clocks_turned_back")


def _check_videos(counted: list[str], vocabulary: Vocabulary) -> None:
    if counted != vocabulary.video_ids:
        raise ContractError("the checkpoint's counters are not of the videos of its model")
