"""Following item vectors and bundles: the right vectors in the right generation."""

import pytest

from contract.errors import BundleError, StoreUnavailable
from contract.process.clock import ManualClock
from contract.wire.events import BundleState, HottestVideos, Origin, SimilarVideos, encode
from contract.wire.keys import partition_of
from contract.wire.topics import MODEL_BUNDLES, VIDEO_UPLOADS, Layout
from streams.follower import waiting
from streams.follower.catch_up import CatchUp
from streams.follower.follower import Follower
from streams.follower.follower_thread import FollowerThread
from streams.follower.offers import MAX_OFFERS
from streams.follower.offline_lists import OfflineLists
from streams.serving.generation import ActiveGeneration
from streams.serving.text_index import TextIndex
from tests.streams.servings import offer, serving
from tests.support.builders import T0, item_vector, upload
from tests.support.memory_consumer import MemoryConsumer, MemoryLog


class World:
    """A follower whose bundles hold the videos *snapshot*."""

    def __init__(self, **snapshot):
        self.switch = ActiveGeneration()
        self.announced = []
        self.damaged = set()
        self.away = set()
        self.monotonic_s = 0.0
        self.num_loads = 0
        self.follower = Follower(
            self.switch,
            load_bundle=self._load,
            make_serving=lambda made: made,
            announce=self.announced.append,
            taken_down=set(),
            clock=ManualClock(T0),
            monotonic=lambda: self.monotonic_s,
        )
        self._snapshot = snapshot

    def _load(self, announcement):
        self.num_loads += 1
        if announcement.bundle_id in self.away:
            raise StoreUnavailable("the store is away")
        if announcement.bundle_id in self.damaged:
            raise BundleError("damaged")
        return serving(self._snapshot, generation=announcement.generation)

    def announce(self, generation, state=BundleState.INDEXED):
        announcement = offer(generation, state=state)
        self.follower.on_announcement(announcement.bundle_id.encode(), encode(announcement))
        return self.follower.swap_if_newer()

    def hear(self, generation, state=BundleState.INDEXED):
        announcement = offer(generation, state=state)
        self.follower.on_announcement(announcement.bundle_id.encode(), encode(announcement))

    def wait(self, seconds):
        """Look ten times a second, as the thread does."""
        for _ in range(10 * seconds):
            self.monotonic_s += 0.1
            self.follower.swap_if_newer()

    def put(self, video_id, generation, vector=(1.0, 0.0), origin=Origin.TRAINING):
        record = item_vector(video_id, vector, generation=generation, origin=origin)
        self.follower.on_item_vector(video_id.encode(), encode(record))

    def take_down(self, video_id):
        self.follower.on_item_vector(video_id.encode(), None)

    def upload(self, video_id):
        self.follower.on_upload(video_id.encode(), encode(upload(video_id)))

    def withdraw(self, video_id):
        """Send the tombstone that index_sync has yet to read."""
        self.follower.on_upload(video_id.encode(), None)

    @property
    def in_service(self):
        return self.switch.current.generation if self.switch.current else None

    def knows(self, video_id):
        return video_id in self.switch.current.items


def test_an_offered_bundle_waits_until_it_is_indexed():
    """Before that, its collection is not whole."""
    world = World()

    assert not world.announce(1, BundleState.OFFERED)
    assert world.announce(1, BundleState.INDEXED)
    assert world.in_service == 1


def test_putting_a_bundle_in_service_is_announced():
    """The trainer publishes fast vectors for that generation from then on."""
    world = World()
    world.announce(1)

    assert [(a.bundle_id, a.state) for a in world.announced] == [("b1", BundleState.IN_SERVICE)]


def test_an_older_generation_never_replaces_a_newer_one():
    """Announcements may come in any order."""
    world = World()
    world.announce(2)
    world.announce(1)

    assert world.in_service == 2


def test_a_damaged_bundle_is_refused_once_and_the_old_one_stays():
    """A refused bundle is not tried again at every poll."""
    world = World()
    world.announce(1)
    world.damaged.add("b2")

    assert not world.announce(2)
    assert not world.announce(2)
    assert (world.in_service, world.follower.counts["bundles_refused"]) == (1, 1)


@pytest.mark.parametrize(
    "error", [ValueError("Protocol not known: nosuch"), ImportError("s3fs"), RuntimeError("onnx")]
)
def test_the_old_bundle_stays_after_any_error_of_the_new_one(error):
    """One announcement ended every worker, and again after each restart."""
    world = World()
    world.announce(1)

    def fail(_):
        raise error

    world.follower._make_serving = fail
    assert not world.announce(2)
    assert (world.in_service, world.follower.counts["bundles_refused"]) == (1, 1)


def test_a_store_that_is_away_is_asked_again_and_the_old_bundle_stays():
    """A storage error says nothing of the bundle: it comes into service once it can be read."""
    world = World()
    world.announce(1)
    world.away.add("b2")
    world.announce(2)
    world.wait(60)
    assert world.in_service == 1
    assert world.num_loads < 10

    world.away.clear()
    world.wait(60)
    assert (world.in_service, world.follower.counts["bundles_refused"]) == (2, 0)


def test_an_older_bundle_is_loaded_while_the_store_of_the_newest_does_not_answer():
    """Any model is better than none; the newest follows."""
    world = World()
    world.away.add("b2")
    world.hear(1, BundleState.IN_SERVICE)
    world.hear(2)
    world.wait(1)
    assert world.in_service == 1

    world.away.clear()
    world.wait(60)
    assert world.in_service == 2


def test_a_month_of_announcements_costs_no_more_than_a_day():
    """Ten times a second every announcement ever made was looked at."""
    world = World()
    for generation in range(1, 2_000):
        world.hear(generation, BundleState.OFFERED)
        world.hear(generation)
    assert len(world.follower._offers) <= MAX_OFFERS

    world.wait(1)
    assert world.in_service == 1_999
    world.hear(7)
    assert len(world.follower._offers) <= MAX_OFFERS


@pytest.mark.parametrize("state", [BundleState.WITHDRAWN, BundleState.OFFERED])
def test_many_announcements_do_not_displace_the_newest_bundle_that_can_serve(state):
    """A worker that started after them served popular videos only, with a bundle at hand."""
    world = World()
    world.hear(1)
    for generation in range(2, 2 + 10 * MAX_OFFERS):
        world.hear(generation, state)
    world.wait(1)

    assert world.in_service == 1


def test_withdrawn_and_damaged_bundles_are_forgotten_before_an_older_servable_one():
    """The newest servable bundle may turn out to be damaged; then the older one serves."""
    world = World()
    world.damaged = {"b3", "b4"}
    world.announce(3)
    world.hear(2)
    world.hear(4)
    for generation in range(5, 5 + 10 * MAX_OFFERS):
        world.hear(generation, BundleState.WITHDRAWN)
    world.wait(1)

    assert world.in_service == 2


def test_a_withdrawn_bundle_makes_room_for_the_one_before_which_was_kept_ready():
    """Going back is one assignment: nothing is loaded."""
    world = World(a=(1.0, 0.0))
    world.announce(1)
    world.announce(2)
    first = world.num_loads

    assert world.announce(2, BundleState.WITHDRAWN)
    assert (world.in_service, world.num_loads) == (1, first)
    assert world.follower.counts["rollbacks"] == 1


def test_the_generation_that_is_kept_ready_follows_its_vectors_and_take_downs():
    world = World(a=(1.0, 0.0), b=(1.0, 0.0))
    world.announce(1)
    world.announce(2)
    world.put("new", 1)
    world.take_down("a")
    world.announce(2, BundleState.WITHDRAWN)

    assert [world.knows(video_id) for video_id in ("a", "b", "new")] == [False, True, True]


def test_after_two_withdrawals_the_bundle_before_is_loaded_again():
    world = World()
    for generation in (1, 2, 3):
        world.announce(generation)
    world.announce(3, BundleState.WITHDRAWN)
    world.announce(2, BundleState.WITHDRAWN)

    assert (world.in_service, world.num_loads) == (1, 4)


def test_a_withdrawn_bundle_serves_on_while_there_is_no_other():
    """Any model is better than none."""
    world = World()
    world.announce(1)

    assert not world.announce(1, BundleState.WITHDRAWN)
    assert world.in_service == 1


def test_what_a_slow_worker_says_of_a_withdrawn_bundle_does_not_bring_it_back():
    world = World()
    world.announce(1)
    world.announce(2)
    world.announce(2, BundleState.WITHDRAWN)
    world.announce(2, BundleState.IN_SERVICE)

    assert world.in_service == 1


def test_a_bundle_with_a_tombstone_is_not_put_in_service():
    """Its collection is gone."""
    world = World()
    world.hear(1)
    world.follower.on_announcement(b"b1", None)
    world.wait(1)

    assert world.in_service is None
    assert not world.follower.counts


def test_a_repeated_step_changes_nothing():
    """An `offered` that comes again after `indexed` is a re-delivery."""
    world = World()
    world.hear(1)
    world.hear(1, BundleState.OFFERED)
    world.wait(1)

    assert world.in_service == 1


def test_vectors_of_generations_that_never_come_are_bounded(monkeypatch):
    """They waited for ever, and all of them."""
    monkeypatch.setattr(waiting, "MAX_UNANNOUNCED", 10)
    world = World()
    world.announce(1)
    for number in range(100):
        world.put(f"v{number}", 2**53 - number)

    assert len(world.follower._waiting) == 10
    assert world.follower.counts["vectors_dropped"] == 90


def test_vectors_of_an_announced_generation_all_wait(monkeypatch):
    """However many are dropped of others: an upload must be there when its bundle is."""
    monkeypatch.setattr(waiting, "MAX_UNANNOUNCED", 1)
    world = World()
    world.announce(1)
    world.put("junk", 2**53)
    world.hear(2, BundleState.OFFERED)
    for number in range(5):
        world.put(f"v{number}", 2)
    world.announce(2)

    assert all(world.knows(f"v{number}") for number in range(5))


def test_a_start_keeps_no_vectors_of_generations_that_are_over():
    """The topic is compacted by video: that of an idle one is as old as it likes."""
    world = World()
    world.hear(7, BundleState.IN_SERVICE)
    world.put("idle", 3)
    world.put("busy", 7)
    assert len(world.follower._waiting) == 1

    world.wait(1)
    assert world.knows("busy")


def test_vectors_of_the_generation_in_service_count_at_once():
    """The fast path, and new uploads."""
    world = World()
    world.announce(1)
    world.put("new", 1)

    assert world.knows("new")


def test_vectors_of_a_coming_generation_wait_for_it():
    """A user vector of one generation never meets an item vector of another."""
    world = World()
    world.announce(1)
    world.put("new", 2)
    assert not world.knows("new")

    world.announce(2)
    assert world.knows("new")


def test_vectors_of_a_past_generation_are_ignored():
    """A late record does no harm."""
    world = World()
    world.announce(2)
    world.put("late", 1)

    assert not world.knows("late")


def test_a_video_taken_down_is_gone_now_and_from_bundles_made_before():
    """The snapshot of a bundle may still hold it."""
    world = World(old=(1.0, 0.0))
    world.announce(1)
    assert world.knows("old")

    world.take_down("old")
    assert not world.knows("old")

    world.announce(2)
    assert not world.knows("old")


def test_a_video_uploaded_again_is_back():
    """Its content was embedded anew; a vector from training proves no upload."""
    world = World(old=(1.0, 0.0))
    world.announce(1)
    world.take_down("old")
    world.put("old", 1)
    assert not world.knows("old")

    world.put("old", 1, origin=Origin.CONTENT)
    assert world.knows("old")


def test_junk_and_vectors_of_another_width_are_counted_and_change_nothing():
    """Dead-lettering them is index_sync's task; serving goes on."""
    world = World()
    world.announce(1)
    world.follower.on_item_vector(b"v", b"{junk")
    world.follower.on_announcement(b"b9", b"{junk")
    world.put("wide", 1, vector=(1.0, 0.0, 0.0))

    assert not world.knows("wide")
    assert world.follower.counts["vectors_misfit"] == 1
    assert world.follower.counts["announcements_skipped:json"] == 1


def test_the_text_of_an_upload_is_found_until_it_is_taken_down():
    """Uploads are followed for their text alone, and only where there is an index for it."""
    texts = TextIndex()
    follower = Follower(
        ActiveGeneration(),
        load_bundle=None,
        make_serving=None,
        announce=None,
        taken_down=set(),
        clock=ManualClock(T0),
        texts=texts,
    )
    follower.on_upload(b"v1", encode(upload("v1", category="guitar")))
    follower.on_upload(b"v2", b"no json")

    assert [video_id for video_id, _ in texts.find("guitars", 5)] == ["v1"]
    assert follower.counts["uploads_skipped:json"] == 1

    follower.on_upload(b"v1", None)
    assert texts.find("guitars", 5) == []


def test_a_tombstone_of_an_upload_takes_down_before_index_sync_has_read_it():
    """It may have been killed; a vector of the content from before does not bring it back."""
    world = World(old=(1.0, 0.0))
    world.announce(1)
    world.withdraw("old")
    world.follower.take_down_withheld()
    world.put("old", 1, origin=Origin.CONTENT)
    assert not world.knows("old")

    world.announce(2)
    assert not world.knows("old")


@pytest.mark.parametrize("is_vector_first", [True, False])
def test_a_video_uploaded_again_is_back_in_whatever_order_the_topics_are_read(is_vector_first):
    """Its vector may come before its upload, or before the tombstone that is older than both."""
    world = World()
    world.announce(1)
    if is_vector_first:
        world.put("again", 1, origin=Origin.CONTENT)
    world.withdraw("again")
    if not is_vector_first:
        world.put("again", 1, origin=Origin.CONTENT)
        world.follower.take_down_withheld()
        assert not world.knows("again")
    world.upload("again")
    world.follower.take_down_withheld()

    assert world.knows("again")


def empty_logs(follower, layout):
    """Return a log for each partition of what *follower* follows."""
    return {
        (layout.name(topic), number): MemoryLog()
        for topic in follower.topics
        for number in range(layout.num_partitions(topic))
    }


def test_a_misplaced_upload_is_not_searchable():
    """index_sync keeps it as a dead letter; here it must not come into any list either."""
    layout, texts, catch_up = Layout(), TextIndex(), CatchUp()
    follower = World().follower
    follower._texts = texts
    logs = empty_logs(follower, layout)
    for video_id in ("v1", "v2"):
        home = partition_of(video_id.encode(), layout.video_partitions)
        number = (home + (video_id == "v2")) % layout.video_partitions
        record = video_id.encode(), encode(upload(video_id))
        logs[layout.name(VIDEO_UPLOADS), number].records.append(record)
    consumer = MemoryConsumer(logs)
    tail = FollowerThread(consumer, layout, follower, monotonic=lambda: 0.0, catch_up=catch_up)
    tail.run(lambda: catch_up.is_over)

    assert [video_id for video_id, _ in texts.find("cooking", 9)] == ["v1"]
    assert follower.counts == {"video-uploads:misplaced": 1}
    assert consumer.is_closed


def test_memory_that_a_swap_frees_is_given_back(monkeypatch):
    """Each bundle leaves holes in the heap, which only grow when nobody gives them back."""
    world, layout, catch_up, given_back = World(), Layout(), CatchUp(), []
    monkeypatch.setattr(
        "streams.follower.follower_thread.give_back_memory",
        lambda: given_back.append(world.switch.current.generation),
    )
    logs = empty_logs(world.follower, layout)
    indexed = offer(1)
    record = indexed.bundle_id.encode(), encode(indexed)
    logs[layout.name(MODEL_BUNDLES), 0].records.append(record)
    consumer = MemoryConsumer(logs)
    tail = FollowerThread(
        consumer, layout, world.follower, monotonic=lambda: 0.0, catch_up=catch_up
    )

    tail.run(lambda: catch_up.is_over)

    assert given_back == [1]


def test_the_lists_of_batch_jobs_are_followed_until_a_tombstone():
    world = World()
    lists = OfflineLists(num_similar=2, num_hottest=2)
    world.follower.follow_lists(lists)
    of_video = SimilarVideos(video_id="v1", videos=[], updated_at_ms=T0)
    of_all = HottestVideos(list_name="hottest:24h:all", videos=[], updated_at_ms=T0)

    world.follower.on_similar(b"v1", encode(of_video))
    world.follower.on_hottest(b"hottest:24h:all", encode(of_all))
    world.follower.on_hottest(b"another", encode(of_all))
    assert len(lists) == 2
    assert world.follower.counts["hottest_skipped:key_mismatch"] == 1

    world.follower.on_similar(b"v1", None)
    world.follower.on_hottest(b"hottest:24h:all", None)
    assert len(lists) == 0


def test_vectors_that_are_taken_together_stop_the_stages_once(monkeypatch):
    """Each change waits for every stage, and every stage for it."""
    world = World(a=(1.0, 0.0))
    world.announce(1)
    changes, changing = [], ActiveGeneration.changing
    monkeypatch.setattr(
        ActiveGeneration, "changing", lambda self: changes.append(1) or changing(self)
    )
    with world.follower.together():
        for number in range(20):
            world.put(f"v{number}", 1)
        assert not world.switch.current.items.row("v3")

    assert len(changes) == 1
    assert world.switch.current.items.row("v3")


def test_a_take_down_among_vectors_that_are_taken_together_keeps_its_place():
    world = World(a=(1.0, 0.0))
    world.announce(1)
    with world.follower.together():
        world.put("gone", 1)
        world.take_down("gone")
        world.take_down("back")
        world.put("back", 1, origin=Origin.CONTENT)

    items = world.switch.current.items
    assert (bool(items.row("gone")), bool(items.row("back"))) == (False, True)
