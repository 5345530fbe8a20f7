"""Define the micro-batch, with the fields that each stage of the pipeline fills."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from contract.kafka.outbox import Outgoing, PendingDelivery
from contract.kafka.records import Received
from contract.wire.events import (
    RankingLog,
    Recommendation,
    RecommendationRequest,
    Search,
    Watch,
)
from contract.wire.words import TRENDING
from models.history.history import Happened
from streams.pipeline.feature_log import RankedFeatures
from streams.pipeline.tracing import BatchTrace
from streams.serving.candidates import NearestVideos
from streams.serving.generation import Serving
from streams.serving.requests import Request
from streams.serving.seen import SeenRows
from streams.state.partition import Partition

# Shape legend: B = users of the batch, D = vector width.

Asking = Watch | Search | RecommendationRequest
"""The kinds of events that are answered by a recommendation."""


@dataclass(slots=True)
class PartitionRecords:
    """The events of one partition in a micro-batch, by user, and those that ask for an answer.

    A request asks and is no event: it changes no window. ``erased`` are the users with a
    deletion, ``to_tell`` those of them whose deletion `recommendations` has not been told of.
    ``copies`` are users of other partitions with a deletion for all of them. ``newest_ms`` is the
    latest record timestamp, ``ingested_ms`` that of the last record of each topic. ``changes`` are
    the changelog records of the fold.
    """

    partition: Partition
    next_offsets: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[Happened]] = field(default_factory=lambda: defaultdict(list))
    to_answer: dict[str, list[Asking]] = field(default_factory=lambda: defaultdict(list))
    erased: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)
    to_tell: set[str] = field(default_factory=set)
    newest_ms: int = 0
    ingested_ms: dict[str, int] = field(default_factory=dict)
    changes: list[Outgoing] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """A micro-batch. The stages fill the fields below in their order.

    The *serving* that a batch was encoded with is the one that it is ranked with. *vectors_BD*
    holds zeros where the model is broken; ``is_broken`` says for whom. ``shortages`` says for each
    user why there is nothing new to recommend, and is empty where there is. *asked_ms* are the
    record timestamps of the events that are answered.
    """

    records: Sequence[Received] = ()
    trace: BatchTrace | None = None
    took_s: dict[str, float] = field(default_factory=dict)
    """The wall time of each stage so far."""

    # decode
    partitions: list[PartitionRecords] = field(default_factory=list)
    dead_letters: list[Outgoing] = field(default_factory=list)
    asked_ms: list[int] = field(default_factory=list)

    # fold
    requests: Sequence[Request] = ()

    # encode
    serving: Serving | None = None
    vectors_BD: Float32[np.ndarray, "B D"] = field(
        default_factory=lambda: np.zeros((0, 0), np.float32)
    )
    is_broken: Sequence[bool] = ()
    seen: SeenRows | None = None

    # search
    near: NearestVideos = field(default_factory=lambda: NearestVideos((), TRENDING))

    # rank
    shortages: Sequence[str] = ()
    logged: RankedFeatures | None = None
    recommendations: Sequence[Recommendation] = ()
    ranking_logs: Sequence[RankingLog] = ()

    # publish
    pending: PendingDelivery | None = None
