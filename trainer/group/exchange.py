"""Give every rank the same batches, in the same order.

Each rank folds the records of its own partitions into windows and joins its own impressions. What
is to be learned of them is exchanged once a round: every rank then learns from all of it, each
batch being one piece from every rank. So the learner, the ranker and all counters are replicas: the
same in all ranks, bit for bit. The work on a step is shared (`models.parallel.data_parallel`), and
so is everything that leads to an example.

Uploads and deletions of users are read by rank 0 and applied by all in its order, since rows of the
tables are numbered by the uploads.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from contract.errors import NextwatchError
from contract.kafka.records import Received
from trainer.group.group import DIVIDED, Group
from trainer.input.dispatch import Intake
from trainer.ranking.examples import RankingExample
from trainer.ranking.watermarks import Place
from trainer.state.training_state import Pending, TrainingState


class DivergedError(NextwatchError):
    """Ranks have learned different things; only a restart from a checkpoint makes them equal."""


class _Piece(msgspec.Struct, array_like=True):
    """What one rank has for one batch."""

    pending: Pending
    ranking: list[RankingExample]


class _Contribution(msgspec.Struct, array_like=True):
    """What one rank gives in one round."""

    shared: list[Received]
    pieces: list[_Piece]
    loss: float
    num_examples: int


class Exchange:
    """Takes records in rounds that all ranks of *group* take together."""

    def __init__(
        self, group: Group, state: TrainingState, intake: Intake, *, batch_size: int
    ) -> None:
        self._group = group
        self._state = state
        self._intake = intake
        self._piece_size = max(1, batch_size // group.size)
        self.num_batches = 0

    def take(self, records: Sequence[Received], idle: Sequence[Place], *, is_aged: bool) -> bool:
        """Apply *records*, exchange what is to be learned, learn it; return whether there was any.

        *is_aged*: what waits here has waited long enough to be learned in a piece that is not full.

        Raises:
            DivergedError: the ranks are not the same any more.
        """
        state = self._state
        pieces = []
        for record in records:
            if record.topic in DIVIDED:
                self._intake.take(record)
                if len(state.pending.examples) >= self._piece_size:
                    pieces.append(self._piece())
        state.join(idle)
        if is_aged or len(state.pending_ranking) >= self._piece_size:
            pieces.append(self._piece())
        shared = [record for record in records if record.topic not in DIVIDED]
        own = _Contribution(shared, pieces, state.loss, state.progressive.num_examples)
        given = [_DECODER.decode(one) for one in self._group.gather(_ENCODER.encode(own))]
        self._check([(one.loss, one.num_examples) for one in given])
        for one in given:
            for record in one.shared:
                self._intake.take(record)
        for number in range(max(len(one.pieces) for one in given)):
            self._learn([one.pieces[number] for one in given if number < len(one.pieces)])
        return bool(records) or any(one.pieces or one.shared for one in given)

    def _piece(self) -> _Piece:
        state = self._state
        piece = _Piece(state.pending, state.pending_ranking)
        state.pending, state.pending_ranking = Pending(), []
        return piece

    def _learn(self, pieces: Sequence[_Piece]) -> None:
        """Learn one batch, and keep what this rank has waiting as it is."""
        state = self._state
        waiting, waiting_ranking = state.pending, state.pending_ranking
        state.pending = Pending(
            [example for piece in pieces for example in piece.pending.examples],
            [viewing for piece in pieces for viewing in piece.pending.viewings],
        )
        state.pending_ranking = [example for piece in pieces for example in piece.ranking]
        state.learn()
        self.num_batches += 1
        state.pending, state.pending_ranking = waiting, waiting_ranking

    def _check(self, told: Sequence[tuple[float, int]]) -> None:
        if any(not np.array_equal(one, told[0], equal_nan=True) for one in told):
            raise DivergedError(f"loss and number of examples differ by rank: {list(told)}")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Contribution)
