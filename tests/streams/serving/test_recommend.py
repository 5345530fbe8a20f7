"""From windows to recommendations, on a serving small enough to draw."""

import math
from dataclasses import replace
from hashlib import blake2b
from threading import Event, Lock, Thread
from uuid import UUID

import numpy as np
import pytest
import structlog

from contract.errors import IndexUnavailable
from contract.points import point_id
from contract.process.clock import ManualClock
from contract.wire.events import MAX_DURATION_MS, encode
from models.history.history import EMPTY, WindowPolicy, fold
from streams.follower.follower import Follower
from streams.serving.candidates import REST_S, CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.serving.recommend import Recommender, recommendation_id
from streams.serving.requests import Request, request_of
from streams.serving.trending import Trending
from tests.streams.servings import serving
from tests.support.builders import T0, event_id, item_vector, watch


def at(degrees):
    """Return the unit vector in that direction; the user looks along 0."""
    return (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


VIDEOS = {"near": at(10), "nearer": at(5), "far": at(90), "opposite": at(180)}


class ListedIndex:
    """Finds what it is told to, or is away."""

    def __init__(self, *video_ids):
        self.hits = [point_id(video_id) for video_id in video_ids]
        self.is_away = False
        self.num_asked = 0

    def nearest(self, collection, vectors_BD, limit):
        self.num_asked += 1
        if self.is_away:
            raise IndexUnavailable("away")
        return [self.hits[:limit] for _ in vectors_BD]


class World:
    def __init__(self, *found, num_trending=0, num_ranked=10, current=None, **options):
        self.index = ListedIndex(*found)
        self.monotonic_s = 0.0
        self.switch = ActiveGeneration(current or serving(VIDEOS))
        retrieval = CandidateSource(
            self.index,
            num_ranked=num_ranked,
            num_trending=num_trending,
            monotonic=lambda: self.monotonic_s,
            **options,
        )
        self.taken_down = set()
        self.recommender = Recommender(
            self.switch,
            retrieval,
            Trending(self.taken_down),
            num_recommended=3,
            is_coalescing=True,
            clock=ManualClock(T0),
        )

    @staticmethod
    def window(*happened):
        return fold(EMPTY, happened, WindowPolicy())

    def recommend(self, *watched):
        window = self.window(*(watch(video_id) for video_id in watched))
        if not self.recommender.has_bundle:
            self.recommender.note(EMPTY, window.watches)
        request = Request("u1", window, [event_id("e")])
        [answer] = self.recommender.recommend([request])
        return answer

    def answer(self, *asking, happened=()):
        request = request_of("u1", self.window(*happened), asking)
        [answer] = self.recommender.recommend([request])
        return answer

    def listed(self, *watched):
        return [item.video_id for item in self.recommend(*watched).items]


def test_what_is_nearest_to_the_user_comes_first():
    """With nothing else known of the videos, similarity decides."""
    assert World("far", "near", "nearer").listed() == ["nearer", "near", "far"]


def test_what_was_watched_is_not_recommended():
    """A window's own videos are left out."""
    assert World("near", "nearer", "far").listed("nearer") == ["near", "far"]


def test_a_video_that_only_the_index_knows_is_left_out():
    """Without vectors in the item store it can't be ranked; it comes with its record."""
    assert World("near", "just-taken-down").listed() == ["near"]


def test_trending_videos_fill_the_list_and_name_their_source():
    """A candidate bears the source that found it, and stands once."""
    world = World("near", num_trending=4)
    world.switch.current.put(item_vector("far", VIDEOS["far"], popularity=50.0))

    sources = {item.video_id: item.source for item in world.recommend().items}

    assert sources["near"] == "ann"
    assert sources["far"] == "trending"


def test_without_the_index_the_item_store_answers_and_the_answer_is_degraded():
    """Degraded, never silent, never empty."""
    world = World("near")
    world.index.is_away = True

    answer = world.recommend("near")

    assert [item.video_id for item in answer.items] == ["nearer", "far", "opposite"]
    assert (answer.degraded, {item.source for item in answer.items}) == (["index_away"], {"exact"})


def test_a_failed_index_is_left_alone_and_then_asked_again():
    """Batches do not queue behind a dead index, and full service returns unasked."""
    world = World("near")
    world.index.is_away = True
    world.recommend()
    world.index.is_away = False

    assert world.recommend().degraded == ["index_away"]
    assert world.index.num_asked == 1

    world.monotonic_s = REST_S
    assert world.recommend().degraded == []


class WantedLock:
    """A lock that tells when a thread waits for it."""

    def __init__(self):
        self._lock = Lock()
        self.is_wanted = Event()

    def __enter__(self):
        if self._lock.locked():
            self.is_wanted.set()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


def test_the_item_store_does_not_change_while_a_batch_computes():
    """Matrices that grow between two looks at them do not fit together: the batch would die."""
    world = World("near")
    follower = Follower(
        world.switch,
        load_bundle=None,
        make_serving=None,
        announce=None,
        taken_down=set(),
        clock=ManualClock(T0),
    )
    record = encode(item_vector("new", VIDEOS["near"]))
    tail = Thread(target=follower.on_item_vector, args=(b"new", record))
    was_known = []

    ranker = world.switch.current.ranker

    class Slow:
        """The real ranker, while another thread wants to put a video in."""

        def rank(self, inputs):
            tail.start()
            assert world.switch.ranking.is_wanted.wait(10)
            was_known.append("new" in world.switch.current.items)
            return ranker.rank(inputs)

    world.switch.ranking = WantedLock()
    world.switch.current = replace(world.switch.current, ranker=Slow())
    world.recommend()
    tail.join()

    assert was_known == [False]
    assert "new" in world.switch.current.items


def test_before_the_first_bundle_the_answer_is_what_others_watch():
    """Nobody waits for a model, and the answer says why it is no better."""
    world = World()
    world.switch.current = None
    world.recommend("popular")

    answer = world.recommend("near")

    assert [(item.video_id, item.source) for item in answer.items] == [("popular", "trending")]
    assert (answer.degraded, answer.bundle_id) == (["no_bundle"], None)


def test_without_a_bundle_a_video_taken_down_is_not_recommended_either():
    """A tombstone reaches every list."""
    world = World()
    world.switch.current = None
    world.recommend("popular")
    world.taken_down.add("popular")

    assert world.listed("near") == []


def test_without_the_index_a_large_catalogue_answers_with_the_users_last_candidates():
    """Searching it in memory would take too long; what the index last said is still good."""
    world = World("near", "far", max_exact_videos=2)
    world.recommend()
    world.index.is_away = True

    answer = world.recommend("near")

    assert [item.video_id for item in answer.items] == ["far"]
    assert (answer.degraded, answer.items[0].source) == (["index_away"], "last_good")


def test_a_user_the_index_never_answered_gets_what_is_trending():
    """And so does an erased one: what was remembered of him is gone."""
    world = World("near", num_trending=1, max_exact_videos=2)
    world.switch.current.put(item_vector("far", VIDEOS["far"], popularity=50.0))
    world.recommend()
    world.index.is_away = True
    world.recommender.forget("u1")

    answer = world.recommend()

    assert [(item.video_id, item.source) for item in answer.items] == [("far", "trending")]


def test_an_index_that_stays_away_is_asked_less_and_less():
    """Each question costs a batch its patience: every few seconds is often enough."""
    world = World("near")
    world.index.is_away = True
    for _ in range(200):
        world.monotonic_s += 0.1
        world.recommend()

    assert world.index.num_asked <= 8


@pytest.mark.parametrize("vector", [(math.nan, 0.0), (math.inf, 0.0)])
def test_a_model_that_gives_no_numbers_is_left_out_and_named(vector):
    """Not-a-number never reaches the index or the answer."""
    current = serving(VIDEOS, user_vector=vector)
    current.put(item_vector("far", VIDEOS["far"], popularity=50.0))
    answer = World("near", num_trending=1, current=current).recommend()

    assert [(item.video_id, item.source) for item in answer.items] == [("far", "trending")]
    assert answer.degraded == ["model_broken"]


def test_a_model_that_raises_is_left_out_and_named():
    """A viewer is answered whatever a bundle does."""
    current = serving(VIDEOS)
    current.encoder.encode = None  # not callable

    answer = World("near", num_trending=4, current=current).recommend()

    assert answer.degraded == ["model_broken"]
    assert len(answer.items) == 3


def test_a_candidate_the_ranker_has_no_number_for_comes_last():
    """The answer stays valid JSON, and says that something is wrong."""

    class Nan:
        def rank(self, inputs):
            score_BC = np.where(inputs.similarity_BC > 0.99, np.nan, inputs.similarity_BC)
            return score_BC, score_BC

    world = World("nearer", "near", current=replace(serving(VIDEOS), ranker=Nan()))

    answer = world.recommend()

    assert [item.video_id for item in answer.items] == ["near", "nearer"]
    assert answer.items[-1].expected_watch_ms == 0.0
    assert answer.degraded == ["model_broken"]


def test_a_recommendation_names_the_generation_it_came_from():
    """Skew can be looked for in the output alone."""
    answer = World("near", current=serving(VIDEOS, generation=7)).recommend()

    assert (answer.bundle_id, answer.generation) == ("b7", 7)


@pytest.mark.parametrize(
    "other", [("u2", ["e"], "b1"), ("u1", ["f"], "b1"), ("u1", ["e"], "b2"), ("u1", ["e"], None)]
)
def test_the_id_follows_from_user_events_and_bundle(other):
    """The same recommendation bears the same id; another one another."""
    assert recommendation_id("u1", ["e"], "b1") == recommendation_id("u1", ["e"], "b1")
    assert recommendation_id(*other) != recommendation_id("u1", ["e"], "b1")


def test_the_order_of_the_causing_events_does_not_change_the_id():
    """A batch delivered in another order is the same cause."""
    assert recommendation_id("u1", ["e", "f"], "b1") == recommendation_id("u1", ["f", "e"], "b1")


def test_the_id_for_uuids_is_what_it_has_always_been():
    """Whoever remembers an id from before an upgrade meets the same one in a re-delivery."""
    causes = sorted([event_id("e"), event_id("f")])
    named = "\n".join(["u1", "b1", *causes])

    old = str(UUID(bytes=blake2b(named.encode(), digest_size=16).digest()))

    assert recommendation_id("u1", [causes[0].upper(), causes[1]], "b1") == old


def test_answers_name_events_as_their_producers_did():
    """In every form in which they came: whoever waits for an answer finds the id it sent."""
    uuid = event_id("e")
    given = [uuid.upper(), "evt_42", uuid.replace("-", ""), "evt_42"]

    [answer] = World("near").recommender.recommend([Request("auth0|u", EMPTY, given)])

    assert answer.caused_by == given[:3]
    assert answer.recommendation_id == recommendation_id("auth0|u", [uuid, "evt_42"], "b1")


def test_a_search_in_memory_asks_no_index_and_is_not_degraded():
    """The item store holds the same vectors; for a small catalogue that is the faster way."""
    world = World("near", is_in_memory=True)

    answer = world.recommend("near")

    assert [item.video_id for item in answer.items] == ["nearer", "far", "opposite"]
    assert (answer.degraded, world.index.num_asked) == ([], 0)


class Failing:
    """A model that does not compute."""

    def __init__(self, result=None):
        self.result = result

    def rank(self, inputs):
        if self.result is None:
            raise RuntimeError("no such operator")
        return self.result, self.result


@pytest.mark.parametrize("result", [None, np.zeros((1, 1)), np.zeros(7), "text"])
def test_a_ranker_that_fails_leaves_the_order_to_the_vectors(result):
    """It ended the worker, and the next one, and so on: the event was never answered."""
    broken = replace(serving(VIDEOS), ranker=Failing(result))
    answer = World("far", "near", "nearer", current=broken).recommend()

    assert [item.video_id for item in answer.items] == ["nearer", "near", "far"]
    assert answer.degraded == ["model_broken"]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_score_is_not_published(value):
    """JSON has none: consumers would read null."""

    class Infinite:
        def rank(self, inputs):
            return np.full(inputs.rows_BC.shape, value), np.full(inputs.rows_BC.shape, value)

    answer = World("near", current=replace(serving(VIDEOS), ranker=Infinite())).recommend()

    assert [item.video_id for item in answer.items] == ["near"]
    assert math.isfinite(answer.items[0].score)
    assert answer.items[0].expected_watch_ms == 0.0
    assert answer.degraded == ["model_broken"]


def test_an_expected_watch_time_stays_within_the_contract():
    """Whatever a ranker thinks."""

    class Wild:
        def rank(self, inputs):
            return np.full(inputs.rows_BC.shape, 1e15), inputs.similarity_BC

    answer = World("near", current=replace(serving(VIDEOS), ranker=Wild())).recommend()

    assert answer.items[0].expected_watch_ms == MAX_DURATION_MS
    assert answer.degraded == []


class BrokenTree:
    """A tree that does not compute."""

    def nearest(self, *_):
        raise RuntimeError("no such operator")


def test_a_tree_that_fails_leaves_what_is_trending():
    """No index stands behind it."""
    current = replace(serving(VIDEOS), tree=BrokenTree())
    current.items.put(item_vector("far", VIDEOS["far"], popularity=50.0))
    answer = World("near", num_trending=1, current=current).recommend()

    assert [(item.video_id, item.source) for item in answer.items] == [("far", "trending")]
    assert answer.degraded == ["model_broken"]


@pytest.mark.parametrize("vectors", [np.zeros((1, 3)), np.zeros((2, 2)), np.zeros(2)])
def test_an_encoder_of_another_width_is_left_out_and_named(vectors):
    """What it returns fits no item vector."""
    current = serving(VIDEOS)
    current.encoder.encode = lambda *_: vectors.astype(np.float32)
    current.put(item_vector("far", VIDEOS["far"], popularity=50.0))
    answer = World("near", num_trending=1, current=current).recommend()

    assert [(item.video_id, item.source) for item in answer.items] == [("far", "trending")]
    assert answer.degraded == ["model_broken"]


def test_whatever_goes_wrong_in_a_batch_every_request_is_answered(monkeypatch):
    """Redelivered after a crash it would go wrong again, in every worker in turn."""
    world = World("near", "far")
    world.recommender.note(EMPTY, fold(EMPTY, [watch("popular")], WindowPolicy()).watches)

    def fail(*_):
        raise OverflowError("int too big to convert")

    monkeypatch.setattr(world.switch.current.points, "rows", fail)
    with structlog.testing.capture_logs() as logs:
        answer = world.recommend()

    assert [(item.video_id, item.source) for item in answer.items] == [("popular", "trending")]
    assert answer.degraded == ["model_broken"]
    assert [entry["event"] for entry in logs] == ["answer_failed"]
