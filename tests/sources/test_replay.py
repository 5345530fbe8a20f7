"""Replaying: the whole log in its order, or up to an end."""

from itertools import pairwise
from time import monotonic

import msgspec
import pytest

from contract.errors import BrokerUnavailable
from contract.wire.decoding import decode
from contract.wire.topics import TOPICS
from nextwatch.datasets import kuairand
from nextwatch.sources.pacing import EvenPace, LogPace
from nextwatch.sources.replay import End, replay
from nextwatch.sources.run import idle_hint
from nextwatch.sources.timeline import lay_out
from tests.support.dataset_logs import exposure, taped_feed, write_kuairand

FAST = 1e8


@pytest.fixture
def timeline(tmp_path):
    """Thirty exposures, one each second of the log, every third one not played."""
    rows = [
        exposure(user_id=n % 4, video_id=n, at_ms=1000 * n, play_time_ms=5_000 * (n % 3))
        for n in range(30)
    ]
    return lay_out(kuairand.read(write_kuairand(tmp_path, rows)), hold_back=0.2)


def run(timeline, *, pace=None, end=None, tell=None):
    """Replay into a taped feed, and return the feed."""
    feed = taped_feed()
    told = tell or (lambda done, totals: None)
    replay(timeline, feed, pace or EvenPace(FAST), end=end or End(), tell=told)
    return feed


def decoded(feed):
    """Return the events in the records of *feed*, by the contract's own rules."""
    by_name = {topic.name: topic for topic in TOPICS}
    return [
        decode(by_name[name], by_name[name].kind, key, value)
        for name, key, value in feed.producer.records
    ]


def test_everything_is_sent_in_event_time_order(timeline):
    """Impressions, watches and late uploads; each decodes as its readers will decode it."""
    feed = run(timeline)
    times_ms = [
        getattr(event, "event_time_ms", None) or event.uploaded_at_ms for event in decoded(feed)
    ]

    assert all(before <= after for before, after in pairwise(times_ms))
    assert feed.totals.impressions == 30
    assert feed.totals.watches == 20
    assert feed.totals.uploads == len(timeline.uploads) > 0
    assert feed.totals.acknowledged == feed.totals.records == feed.producer.num_flushed


def test_a_second_replay_sends_the_same_bytes(timeline):
    """So whoever deduplicates by event id sees nothing new."""
    assert run(timeline).producer.records == run(timeline).producer.records


def test_ends_at_the_limit(timeline):
    """A limit is of watches and searches; impressions ride along."""
    assert run(timeline, end=End(events=7)).totals.events == 7


def test_does_not_wait_for_what_comes_after_the_limit(timeline):
    """The next event of the log may be hours away."""
    started_s = monotonic()
    timeline = lay_out(timeline.log, from_ms=int(timeline.log.time_ms[1]))  # a watch
    feed = run(timeline, pace=LogPace(0.001), end=End(events=1))

    assert feed.totals.events == 1
    assert monotonic() - started_s < 2


def test_an_error_leaves_honest_totals(timeline):
    """How long it took counts up to the error, and what was refused is not acknowledged."""
    feed = taped_feed(refuse_from=5)
    with pytest.raises(BrokerUnavailable):
        replay(timeline, feed, EvenPace(FAST), end=End(), tell=lambda done, totals: None)

    assert feed.totals.seconds > 0
    assert feed.totals.acknowledged == 5


def test_ends_after_a_while(timeline):
    """Even when the next event of the log is hours away."""
    started_s = monotonic()
    feed = run(timeline, pace=LogPace(0.001), end=End(seconds=0.15))

    assert 0.15 <= feed.totals.seconds <= monotonic() - started_s < 2
    assert feed.totals.impressions == 1


def test_a_replay_ends_when_stopped(timeline):
    """A signal sets the event; nothing is sent after it, and it is no failure."""
    feed = taped_feed()
    replay(
        timeline,
        feed,
        EvenPace(FAST),
        end=End(),
        tell=lambda done, totals: feed.stop.set() if totals.events == 3 else None,
    )

    assert feed.totals.events == 3


def test_tells_how_much_is_done(timeline):
    """Of the log, or of the limit, whichever is nearer to its end."""
    told = []
    run(timeline, end=End(events=40), tell=lambda done, totals: told.append(done))

    assert told == sorted(told)
    assert told[-1] == 1


def test_record_values_are_plain_json(timeline):
    """Any consumer can read them."""
    for _, key, value in run(timeline).producer.records:
        assert key.decode() in msgspec.json.decode(value).values()


@pytest.mark.parametrize(("speed", "num"), [(1.0, 2), (100.0, 3)])
def test_a_nearly_idle_replay_prints_a_hint(tmp_path, speed, num):
    """With the number of watches of the next minute, and what would move it."""
    rows = [exposure(video_id=n, at_ms=at_ms) for n, at_ms in enumerate((0, 60_000, 600_000))]
    timeline = lay_out(kuairand.read(write_kuairand(tmp_path, rows)))

    hint = idle_hint(timeline, LogPace(speed))
    assert hint is not None
    assert hint.startswith(f"{num} watches in the next minute at --speed {speed:g}x; --rate")


def test_a_lively_replay_prints_no_hint(tmp_path):
    """Neither does one with a rate of its own."""
    rows = [exposure(video_id=n, at_ms=1_000 * n) for n in range(70)]
    timeline = lay_out(kuairand.read(write_kuairand(tmp_path, rows)))

    assert idle_hint(timeline, LogPace(100)) is None
    assert idle_hint(timeline, EvenPace(0.1)) is None
