"""An explanation says what is recorded, names what is not, and guesses nothing."""

import dataclasses
import json
from io import StringIO

import numpy as np
import pytest
import torch
import xxhash
from msgspec.structs import replace
from rich.console import Console

from contract.kafka.records import Position, Received
from contract.points import point_id
from contract.process.clock import ManualClock
from contract.wire.events import Impressions, RankingLog, Search, encode
from contract.wire.keys import partition_of
from contract.wire.topics import (
    IMPRESSIONS,
    RANKING_LOG,
    SEARCH_EVENTS,
    USER_DELETIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    WINDOWS,
    Layout,
)
from models.bundle import bundle, ranker_export
from models.history import codec
from models.history.history import EMPTY, WindowPolicy, fold
from models.ranking.config import RANKERS
from models.ranking.ranker import RankerModel
from models.serving.ranking import RankerParams
from nextwatch.operate.session import to_ascii_json
from nextwatch.why import report
from nextwatch.why.evidence import Delivered, Evidence, find
from nextwatch.why.explain import explain
from nextwatch.why.score_parts import TOLERANCE, Weights
from streams.pipeline.batch import Batch
from streams.pipeline.feature_log import FeatureLog
from streams.serving import generation
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.serving.recommend import Recommender
from streams.serving.requests import request_of
from streams.serving.trending import Trending
from tests.support.builders import T0, deletion, search, shown, watch
from tests.support.bundles import catalogue, learner_of, no_features, write

EVENTS = [
    shown("cooking1", "chess1", at_ms=0),
    watch("cooking0", at_ms=1_000, watch_ms=20_000),
    search("soup", at_ms=1_500),
    watch("trains1", at_ms=2_000, watch_ms=1_000),
]
OFFSETS = {"watch-events": 2, "impressions": 1, "search-events": 1}


class Everything:
    """An index that finds the whole catalogue."""

    def nearest(self, collection, vectors_BD, limit):
        return [[point_id(one.video_id) for one in catalogue()]] * len(vectors_BD)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return bundle.load(write(learner_of(catalogue()), tmp_path_factory.mktemp("bundles"))[0])


def answer_to(events, loaded):
    """Return a recommendation made of *events*, the last of which asked, and its ranking log."""
    retrieval = CandidateSource(Everything(), num_ranked=50, num_trending=0, monotonic=lambda: 0.0)
    recommender = Recommender(
        ActiveGeneration(generation.load(loaded, collection_prefix="p")),
        retrieval,
        Trending(set()),
        num_recommended=20,
        is_coalescing=True,
        clock=ManualClock(T0),
        feature_log=FeatureLog(1.0),
    )
    window = fold(EMPTY, events, WindowPolicy())
    batch = Batch(requests=[request_of("u1", window, [events[-1]], OFFSETS)])
    for stage in (recommender.encode, recommender.search, recommender.rank):
        stage(batch)
    return batch.recommendations[0], batch.ranking_logs[0]


@pytest.fixture(scope="module")
def answered(loaded):
    """Return a recommendation made of `EVENTS`, and its ranking log."""
    return answer_to(EVENTS, loaded)


def on(topic, event, offset=0):
    key = getattr(event, topic.key_field).encode()
    return Received(topic.name, 0, offset, key, encode(event))


def records(log=None, events=EVENTS):
    """Return what the topics hold: the events, each topic from offset 0, and the catalogue."""
    offsets = {}
    topics = {Impressions: IMPRESSIONS, Search: SEARCH_EVENTS}
    for event in events:
        topic = topics.get(type(event), WATCH_EVENTS)
        offsets[topic.name] = offsets.get(topic.name, -1) + 1
        yield on(topic, event, offsets[topic.name])
    yield from (on(VIDEO_UPLOADS, upload) for upload in catalogue())
    if log is not None:
        yield on(RANKING_LOG, log)


@pytest.fixture
def told(answered, loaded):
    """Return a function that explains the recommendation from *given* records."""

    def explained(given, weights=None, recommendation=answered[0]):
        evidence = Evidence(Delivered(recommendation, 0, 7))
        for record in given:
            evidence.take(record)
        return explain(evidence, weights or Weights.of(loaded), WindowPolicy())

    return explained


def printed(explanation, most_items=3):
    out = StringIO()
    Console(file=out, width=200, highlight=False).print(
        report.whole(explanation, most_items=most_items)
    )
    return out.getvalue()


def test_the_cause_the_window_and_the_features_are_those_that_serving_had(answered, told):
    explanation = told(records(answered[1]))

    [cause] = explanation.causes
    assert (cause.topic, cause.offset, cause.video_id, cause.watch_ms) == (
        *("watch-events", 1, "trains1", 1_000),
    )
    assert explanation.window.is_exact
    assert [one.video_id for one in explanation.window.watches] == ["cooking0", "trains1"]
    assert explanation.window.searches == ["soup"]
    assert explanation.request["num_watches"] == 2
    assert explanation.bundle.generation == 1
    for item in explanation.items:
        assert {"similarity", "video_impressions"} <= item.pair.keys()
        assert {"duration_s", "completion_rate"} <= item.video.keys()
        assert item.found_by == "ann"


def test_events_after_the_logged_offsets_are_not_in_the_window(answered, told):
    later = [*EVENTS, watch("chess0", at_ms=9_000)]

    explanation = told(records(answered[1], later))

    assert explanation.window.is_exact
    assert [one.video_id for one in explanation.window.watches] == ["cooking0", "trains1"]


def test_a_watch_whose_event_is_gone_is_still_in_the_window_by_the_log(answered, told):
    """Retention has taken the first watch: ranking-log names it, without its times."""
    explanation = told(
        record
        for record in records(answered[1])
        if not (record.topic == "watch-events" and record.offset == 0)
    )

    first, last = explanation.window.watches
    assert (first.video_id, first.event_time_ms, first.completed) == ("cooking0", None, True)
    assert last.event_time_ms == T0 + 2_000
    assert not explanation.window.is_exact
    assert any("events of the window" in line for line in explanation.not_known)


def test_without_a_ranking_log_the_present_window_is_told_and_marked(answered, told):
    window = fold(EMPTY, [*EVENTS, watch("chess0", at_ms=9_000)], WindowPolicy())
    changelog = Received(WINDOWS.name, 0, 0, b"u1", codec.encode(window))
    recommendation = replace(answered[0], generated_at_ms=T0 + 5_000)

    explanation = told([*records(), changelog], recommendation=recommendation)

    assert [one.video_id for one in explanation.window.watches] == ["cooking0", "trains1"]
    assert not explanation.window.is_exact
    assert any("NEXTWATCH_STREAMS_RANKING_LOG_SHARE" in one for one in explanation.not_known)
    assert all(item.pair == {} and item.parts.retrieval is None for item in explanation.items)


def test_nothing_but_the_recommendation_is_explained_as_far_as_it_goes(told):
    explanation = told([], weights="its bundle is gone")

    assert explanation.window is None
    assert explanation.causes[0].topic is None
    assert any("its bundle is gone" in line for line in explanation.not_known)
    assert "no longer kept" in printed(explanation)


def test_parts_before_training_are_retrievals_term_and_that_of_popularity():
    weights = Weights("sum", RankerParams())
    video = {"completion_rate": 0.5, "watches": 3.0}
    parts = weights.parts(score=0.0, expected_watch_ms=1.0, similarity=0.4, video=video)

    # 0.3 / 0.2 * 0.4 = 0.6, and log((3 + 0.3) * 0.5)
    assert parts.retrieval == pytest.approx(0.3 / 0.2 * 0.4)
    assert parts.ranker == pytest.approx(0.500775)
    assert parts.rules == pytest.approx(-parts.blended)


def test_parts_add_up_to_the_served_score_where_no_rule_touched_it(told, loaded):
    """The same list with the last watch completed: nothing was skipped, nothing was searched."""
    events = [EVENTS[0], EVENTS[1], EVENTS[2], watch("trains1", at_ms=2_000, watch_ms=29_000)]
    recommendation, log = answer_to(events, loaded)

    items = told(records(log, events), recommendation=recommendation).items

    assert [item.parts.blended for item in items] == pytest.approx(
        [item.score for item in items], abs=TOLERANCE
    )
    assert not any("lowered" in rule or "above" in rule for item in items for rule in item.rules)


@pytest.fixture(scope="module")
def with_ranker(tmp_path_factory):
    """A bundle with a network that orders the candidates, of random weights."""
    learner = learner_of(catalogue())
    snapshot = learner.snapshot(no_features(learner))
    rows = np.arange(1, len(snapshot.video_ids) + 1)
    model = RankerModel(dataclasses.replace(RANKERS["deepfm"], dim=8), seed=1)
    nothing = np.zeros(len(rows), np.int64)
    lengths = np.full(len(rows), 30_000.0)
    model.describe(rows, channel=nothing, category=nothing, tag=nothing, duration_ms=lengths)
    with torch.no_grad():
        for parameter in model.network.parameters():  # the last layers begin with zeros
            parameter.normal_(0.0, 0.3)
    root = tmp_path_factory.mktemp("ranker")
    card = learner.card(bundle_id="b1", generation=1, offsets={}, metrics={})
    files = learner.bundle_files() | ranker_export.export(model, rows)
    bundle.write(f"file://{root}", card, files, snapshot)
    return bundle.load(f"file://{root}/b1")


def test_parts_of_a_trained_ranker_add_up_to_the_served_score(told, with_ranker):
    """Log of the expected watch time, and retrieval's logit, as serving blended them."""
    events = [EVENTS[0], EVENTS[1], EVENTS[2], watch("trains1", at_ms=2_000, watch_ms=29_000)]
    recommendation, log = answer_to(events, with_ranker)

    explanation = told(records(log, events), Weights.of(with_ranker), recommendation)

    assert explanation.bundle.ranker == "deepfm"
    assert len({item.parts.ranker for item in explanation.items}) > 1
    assert [item.parts.blended for item in explanation.items] == pytest.approx(
        [item.score for item in explanation.items], abs=TOLERANCE
    )


def test_a_skip_lowers_the_scores_of_what_is_like_it_and_is_told(answered, told):
    """The last watch of `EVENTS` was a skip of a video about trains."""
    items = told(records(answered[1])).items

    lowered = {item.video_id for item in items if any("lowered" in rule for rule in item.rules)}
    assert {"trains0", "trains2", "trains3", "trains4"} <= lowered
    assert all(item.parts.rules < 0 for item in items if item.video_id in lowered)


def test_parts_of_a_trained_ranker_are_log_watch_time_and_retrievals_logit():
    weights = Weights("deepfm", RankerParams(), retrieval_weight=0.5)

    parts = weights.parts(score=3.0, expected_watch_ms=10_000, similarity=0.4, video={})

    # log(10 s) + 0.5 / 0.2 * 0.4
    assert parts.blended == pytest.approx(2.302585 + 1.0)
    assert parts.rules == pytest.approx(3.0 - 3.302585)


def test_a_video_that_was_shown_in_vain_says_by_which_rule_it_came_down(answered, told):
    explanation = told(records(answered[1]))

    moved = {item.video_id: item.rules for item in explanation.items if item.rules}
    assert any("moved down" in rule for rules in moved.values() for rule in rules)
    assert moved.keys() <= {"cooking1", "chess1"} | {
        item.video_id for item in explanation.items if any("lowered" in rule for rule in item.rules)
    }


def test_features_of_another_version_are_numbered_and_not_named(answered, told):
    explanation = told(records(replace(answered[1], feature_version=99)))

    assert "value 0" in explanation.request
    assert all("similarity" not in item.pair for item in explanation.items)
    assert any("version 99" in line for line in explanation.not_known)


def test_a_log_of_other_sizes_is_shown_and_does_not_end_the_command(answered, told):
    """Whoever may write to the topic may have made it."""
    log = RankingLog(
        recommendation_id=answered[0].recommendation_id,
        user_id="u1",
        generated_at_ms=T0,
        bundle_id="b1",
        generation=1,
        feature_version=1,
        video_ids=[],
        context=b"\0" * 8,
        user_vector=b"",
        candidates=b"",
    )

    explanation = told(records(log))

    assert explanation.request == {"value 0": 0.0, "value 1": 0.0}
    assert "features: not known" in printed(explanation)


def test_control_characters_of_the_wire_do_not_reach_the_terminal(answered, told):
    """Titles and queries are of anybody who may write."""
    hostile = "\x1b[31mred\x9b2J\u202etxt"
    upload = replace(catalogue()[0], title=hostile)
    events = [*EVENTS[:2], replace(EVENTS[2], query=f"a{hostile}"), EVENTS[3]]

    given = [*records(answered[1], events), on(VIDEO_UPLOADS, upload)]
    text = printed(told(given), most_items=50)

    assert not {"\x1b", "\x9b", "\u202e"} & set(text)


def test_values_that_are_not_finite_are_null_in_json_and_end_nothing(answered, told):
    """Whoever may write to ranking-log may have made them."""
    log = answered[1]
    broken = np.full(len(log.candidates) // 4, np.nan, "<f4").tobytes()
    explanation = told(records(replace(log, candidates=broken)))

    item = json.loads(to_ascii_json(explanation))["items"][0]
    assert item["pair"]["similarity"] is None
    assert item["parts"]["rules"] is None
    assert "nan" in printed(explanation)


def test_json_has_no_byte_that_a_terminal_acts_on(answered, told):
    hostile = replace(catalogue()[1], title="\x1b[31m\x7f\x9b2J\u202e")

    text = to_ascii_json(told([*records(answered[1]), on(VIDEO_UPLOADS, hostile)]))

    assert all(" " <= character <= "~" for character in text)
    assert any(item["title"] == hostile.title for item in json.loads(text)["items"])


def test_an_erasure_since_then_is_told(answered, told):
    erased = on(USER_DELETIONS, deletion(at_ms=60_000), 0)

    explanation = told([*records(answered[1]), erased])

    assert any("was erased since" in line for line in explanation.not_known)


def test_a_window_that_newer_code_wrote_is_not_known(told):
    version = bytes([codec.VERSION + 1])
    record = version + xxhash.xxh3_64_digest(version + b"body") + b"body"

    explanation = told([Received(WINDOWS.name, 0, 0, b"u1", record)])

    assert explanation.window is None
    assert any("newer code" in line for line in explanation.not_known)


def test_only_what_is_of_this_user_is_kept(answered, told):
    other = [on(WATCH_EVENTS, watch("chess0", user_id="u2"), 0)]

    explanation = told([*other, *records(answered[1])])

    assert explanation.window.is_exact
    assert [one.video_id for one in explanation.window.watches] == ["cooking0", "trains1"]


def test_partitions_of_other_users_are_not_read(answered):
    layout, evidence = Layout(user_partitions=8), Evidence(Delivered(answered[0], 0, 0))
    wanted = [n for n in range(8) if evidence.is_wanted(Position("watch-events", n), layout)]

    assert wanted == [partition_of(b"u1", 8)]
    assert evidence.is_wanted(Position("video-uploads", 3), layout)


def test_repeated_deliveries_are_counted_and_what_is_unreadable_is_left_out(answered):
    value, wanted = encode(answered[0]), answered[0].recommendation_id
    broken = b'{"recommendation_id": "' + wanted.encode()
    found = find(
        [
            Received("recommendations", 0, 3, b"u1", value),
            Received("recommendations", 0, 4, b"u1", broken),
            Received("recommendations", 0, 5, b"u1", None),
            Received("recommendations", 0, 6, b"u1", value),
        ],
        wanted,
    )

    assert (found.offset, found.num_deliveries) == (6, 2)
