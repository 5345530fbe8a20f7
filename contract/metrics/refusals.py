"""Count records that break the contract, by topic and by the word of the reason."""

from collections import Counter
from collections.abc import Iterable, Iterator

from contract.metrics.metric import Metric, MetricSample
from contract.wire.dead_letters import REASONS

OTHER = "other"
"""A reason that is none of `contract.wire.dead_letters.REASONS`: a label has few values."""


class RefusalCounts:
    """Refused records of each topic; one thread counts, any may read `samples`."""

    def __init__(self, metric: Metric, topics: Iterable[str]) -> None:
        """Show every reason of *topics* from the start, so that the first refusal is a rise."""
        self._metric = metric
        self._counts: Counter[tuple[str, str]] = Counter(
            {(topic, reason): 0 for topic in topics for reason in (*REASONS, OTHER)}
        )

    def note(self, topic: str, reason: str, count: int = 1) -> None:
        """Add *count* records of *topic* refused for *reason*, such as ``missing:user_id``."""
        word = reason.partition(":")[0]
        self._counts[topic, word if word in REASONS else OTHER] += count

    def total(self) -> int:
        """Return how many records were refused."""
        return self._counts.total()

    def samples(self) -> Iterator[MetricSample]:
        """Yield the count of each topic and reason."""
        for labels, count in self._counts.copy().items():
            yield MetricSample(self._metric, count, labels)
