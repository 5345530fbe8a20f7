"""Run the closed loop: the audience acts, streams recommends, the audience acts on that.

One thread, three clocks to keep: when somebody acts, when something is uploaded, and what
has been recommended meanwhile, which is read while waiting for the other two.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from confluent_kafka import OFFSET_END, Consumer

from contract.errors import DecodeError
from contract.kafka.client import consumer_config, unhurried
from contract.kafka.topic_reader import TopicReader
from contract.process.settings import KafkaSettings
from contract.wire.decoding import decode
from contract.wire.events import Recommendation
from contract.wire.topics import RECOMMENDATIONS
from nextwatch.acls import SIMULATE_GROUP
from nextwatch.simulation.audience import Audience
from nextwatch.sources.feed import ANSWER_WITHIN_S, TICK_S, EventFeed, quiet
from nextwatch.sources.pacing import Pace
from nextwatch.sources.progress import Tell
from nextwatch.sources.replay import End

BATCH = 100
LOOK_EVERY_MS = 100
"""How often the audience looks at what is recommended."""


@dataclass(slots=True)
class Recommendations:
    """Passes new records of `recommendations` to the audience; commits nothing."""

    reader: TopicReader
    received: int = 0
    refused: int = 0

    def tell(self, audience: Audience, *, within_s: float) -> None:
        """Wait up to *within_s* for recommendations, and offer them to *audience*."""
        for message in self.reader.poll(BATCH, within_s=within_s):
            try:
                recommendation = decode(
                    RECOMMENDATIONS, Recommendation, message.key(), message.value()
                )
            except DecodeError:
                self.refused += 1
                continue
            self.received += 1
            audience.offer(recommendation)


@contextmanager
def follow(settings: KafkaSettings) -> Iterator[Recommendations]:
    """Yield the recommendations that are made from now on, of all users."""
    config = consumer_config(settings, group_id=settings.layout.prefix + SIMULATE_GROUP)
    consumer = Consumer(quiet(unhurried(config, within_ms=LOOK_EVERY_MS)))
    with closing(TopicReader(consumer, settings.layout)) as reader:
        partitions = reader.partitions([RECOMMENDATIONS.name], within_s=ANSWER_WITHIN_S)
        reader.assign(dict.fromkeys(partitions, OFFSET_END))
        yield Recommendations(reader)


def simulate(
    audience: Audience,
    feed: EventFeed,
    recommendations: Recommendations,
    *,
    pace: Pace,
    upload_pace: Pace,
    end: End,
    tell: Tell,
) -> None:
    """Let *audience* act at *pace* until *end*, and wait for the acknowledgements.

    Raises:
        BrokerUnavailable: something was not acknowledged.
    """
    with feed.totals.timed() as started_s:
        act_s = pace.due_s(now_s=started_s)
        upload_s = upload_pace.due_s(now_s=started_s)
        share = 0.0
        while not feed.stop.is_set() and share < 1:
            now_s = monotonic()
            if act_s <= now_s:
                for event in audience.act():
                    feed.send(event)
                act_s = pace.due_s(now_s=now_s)
            if upload_s <= now_s:
                feed.send(audience.upload())
                upload_s = upload_pace.due_s(now_s=now_s)
            wait_s = min(act_s, upload_s) - monotonic()
            recommendations.tell(audience, within_s=min(max(wait_s, 0.0), TICK_S))
            share = end.share(events=feed.totals.events, passed_s=monotonic() - started_s)
            tell(share if end.is_given else None, feed.totals)
    feed.flush()


def outcome(audience: Audience, recommendations: Recommendations) -> dict[str, Any]:
    """Return the figures of the closed loop.

    The mean watched share is of the videos' durations, by where they were found. A shelf that
    holds nothing of interest is left for another, so the share of recommendations that were
    accepted tells more of their quality than the watching of those that were.
    """
    recommended, browsed = audience.satisfaction.recommended, audience.satisfaction.browsed
    watches = recommended.watches + browsed.watches
    return {
        "recommendations_received": recommendations.received,
        "recommendations_refused": recommendations.refused,
        "watched_from_recommendation_share": (
            round(recommended.watches / watches, 4) if watches else 0.0
        ),
        "recommendations_accepted_share": _rounded(audience.satisfaction.accepted),
        "mean_watched_share": {
            "recommended": _rounded(recommended.mean),
            "browsed": _rounded(browsed.mean),
        },
        "videos": len(audience.pool),
        "users": len(audience.viewers),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
