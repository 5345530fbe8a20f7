"""The story of the loop: what it does when, and in which order its effects come."""

import dataclasses
import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep
from unittest.mock import Mock

import pytest
import structlog

from benchmarks.stack.inline_executor import InlineExecutor
from contract.errors import StoreUnavailable
from contract.process import memory
from contract.process.clock import ManualClock
from contract.wire.events import MAX_GENERATION, BundleState
from contract.wire.topics import (
    IMPRESSIONS,
    MODEL_BUNDLES,
    RANKING_LOG,
    USER_DELETIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
    Layout,
)
from models.bundle import bundle
from tests.support.builders import T0, deletion, upload, watch
from tests.trainer.doubles import (
    JournalOutbox,
    RecordingLearner,
    RecordingRanker,
    ScriptedFeed,
    announcement,
    received,
    state_of,
)
from tests.trainer.ranking import facts
from trainer.guard.rollback import Rollback
from trainer.input.dispatch import Intake
from trainer.input.feed import BrokerLostRecordsError
from trainer.loop import ALL, Trainer
from trainer.parts import Parts
from trainer.publish.generations import Generations
from trainer.publish.publishing import BundlePublisher
from trainer.ranking.join_store import RocksJoinStore
from trainer.settings import TrainerSettings
from trainer.state import checkpoint_codec
from trainer.state.checkpoint import Checkpoints
from trainer.state.journal import Journal
from trainer.transitions import BACKLOG_SPAN_MS

NEVER = 3_600.0


class Room:
    """A trainer among stand-ins, all of which write into one journal."""

    def __init__(
        self,
        tmp_path,
        *batches,
        feed=None,
        guarding=None,
        rollback=None,
        writer=None,
        **settings,
    ):
        self.journal = []
        self.learner = RecordingLearner(self.journal)
        self.state = state_of(learner=self.learner)
        self.generations = Generations()
        self.outbox = JournalOutbox(self.journal)
        self.feed = feed or ScriptedFeed(*batches)
        self.checkpoints = Checkpoints(tmp_path / "checkpoints")
        self._note_saves()
        clock, layout = ManualClock(T0), Layout()
        rhythm = {"fast_path_s": NEVER, "publish_every_s": NEVER, "checkpoint_every_s": NEVER}
        publisher = BundlePublisher(self.outbox, layout, f"file://{tmp_path}/bundles", clock)
        self.bundles = tmp_path / "bundles"
        self.trainer = Trainer(
            Parts(
                state=self.state,
                generations=self.generations,
                feed=self.feed,
                intake=Intake(
                    *(self.state, self.generations, self.outbox, layout, clock),
                    rollback.quarantine if rollback is not None else None,
                ),
                outbox=self.outbox,
                publisher=publisher,
                checkpoints=self.checkpoints,
                journal=Journal(tmp_path / "checkpoints"),
                writer=writer or InlineExecutor(),
                clock=clock,
                state_clock=clock,
                watch=guarding,
                rollback=rollback,
            ),
            TrainerSettings(
                **{**rhythm, "batch_wait_ms": 0, "batch_size": 4, "backfill_users": 0, **settings}
            ),
        )

    def start(self):
        """Start, and forget how."""
        self.trainer.start(lambda: False)
        self.journal.clear()
        return self

    def effects(self):
        """Return the names of what happened, in order."""
        return [effect[0] if effect[0] != "send" else effect[1] for effect in self.journal]

    def _note_saves(self):
        save = self.checkpoints.save

        def noted(*args, **kwargs):
            self.journal.append(("checkpoint",))
            return save(*args, **kwargs)

        self.checkpoints.save = noted


class KeepsNothing(Mock):
    """A watch of what serves that lets everything pass, on a disk that may be full."""

    has_gone_back = is_held = has_caught_up = False
    is_full = True

    def why_not_offer(self):
        return None

    def why_refused(self, _bundle):
        return None

    def keep(self, _generation, _checkpoint):
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def progress(self):
        return {}


UPLOADS = [received(VIDEO_UPLOADS, upload(f"v{n}"), offset=n) for n in range(10)]


def watches(*video_ids, user_id="u1", offset=0):
    """Return watch records of one user, a millisecond apart."""
    return [
        received(WATCH_EVENTS, watch(video_id, user_id=user_id, at_ms=n), offset=n)
        for n, video_id in enumerate(video_ids, start=offset)
    ]


def learned_batches(room):
    return [len(effect[1]) for effect in room.journal if effect[0] == "learn"]


def backlog(monkeypatch, records):
    """Let so many records at once say that the trainer is behind."""
    monkeypatch.setattr("trainer.loop.NUM_BEHIND", len(records))
    return records


def test_a_backlog_is_learned_in_larger_batches(tmp_path, monkeypatch):
    """Twelve examples that wait are one batch of 10 and a rest; in live traffic they are three."""
    by_user = [watches("v1", user_id=f"u{n}", offset=n)[0] for n in range(12)]
    busy = Room(tmp_path / "busy", UPLOADS, backlog(monkeypatch, by_user), batch_wait_ms=60_000,
                backlog_batch_size=10).start()  # fmt: skip
    busy.trainer.take()
    assert learned_batches(busy) == [10]

    monkeypatch.setattr("trainer.loop.NUM_BEHIND", 500)
    live = Room(tmp_path / "live", UPLOADS, by_user, batch_wait_ms=60_000,
                backlog_batch_size=10).start()  # fmt: skip
    live.trainer.take()
    assert learned_batches(live) == [4, 4, 4]


def test_a_large_batch_spans_no_more_than_a_minute(tmp_path, monkeypatch):
    """A quiet log is learned in the batches in which it would have come: signals hold so long."""
    gap_ms = BACKLOG_SPAN_MS // 5
    slow = [
        received(WATCH_EVENTS, watch("v1", user_id=f"u{n}", at_ms=n * gap_ms), offset=n)
        for n in range(12)
    ]
    room = Room(tmp_path, UPLOADS, backlog(monkeypatch, slow), batch_wait_ms=60_000,
                backlog_batch_size=10).start()  # fmt: skip

    room.trainer.take()

    assert learned_batches(room) == [6, 6]


def test_progress_tells_how_old_the_oldest_record_was(tmp_path):
    """Seconds behind the topics; nothing waits, no lag."""
    late = [dataclasses.replace(one, ingested_at_ms=T0 - 90_000) for one in watches("v1")]
    room = Room(tmp_path, UPLOADS, late).start()
    for lag_s in (90.0, 0.0):
        room.trainer.take()
        with structlog.testing.capture_logs() as logs:
            room.trainer._log_progress()

        assert logs[0]["event"] == "progress_made"
        assert logs[0]["lag_s"] == lag_s


def test_the_first_start_offers_a_cold_bundle_of_the_catalogue(tmp_path):
    room = Room(tmp_path, UPLOADS)

    room.trainer.start(lambda: False)

    [offered] = room.outbox.announcements()
    assert (offered.generation, offered.state) == (1, BundleState.OFFERED)
    assert (Path(offered.url.removeprefix("file://")) / "manifest.json").exists()
    assert room.feed.opened[0] == (["video-uploads", "model-bundles"], {})


def test_a_bundle_is_whole_then_remembered_then_announced(tmp_path):
    """A crash between any two leaves a directory that nobody looks at, or a bundle too few."""
    room = Room(tmp_path, UPLOADS)

    room.trainer.start(lambda: False)

    assert room.effects() == [
        "freeze", "export", "acknowledged", "checkpoint", "model-bundles", "acknowledged"
    ]  # fmt: skip
    assert room.checkpoints.newest().offsets == {"video-uploads": {0: 10}}


def test_no_untrained_bundle_is_offered_where_there_is_a_trained_one(tmp_path):
    """A trainer that lost its checkpoints must not put an untrained model in service."""
    running = received(MODEL_BUNDLES, announcement(7, BundleState.IN_SERVICE))
    room = Room(tmp_path, [*UPLOADS, running])

    room.trainer.start(lambda: False)

    assert room.outbox.announcements() == []


def test_the_next_generation_is_beyond_all_that_were_announced(tmp_path):
    running = received(MODEL_BUNDLES, announcement(7, BundleState.IN_SERVICE))
    room = Room(tmp_path, [*UPLOADS, running], watches("v1")).start()

    room.trainer.step()
    room.trainer.offering.offer_next()

    assert [offered.generation for offered in room.outbox.announcements()] == [8]


def test_a_full_batch_is_learned_before_the_next_record_is_taken(tmp_path):
    """Nothing of a later record is known when a batch is scored."""
    room = Room(tmp_path, UPLOADS, watches(*(f"v{n}" for n in range(6)))).start()

    room.trainer.step()

    assert room.journal == [
        ("score", ["v0", "v1", "v2", "v3"]),
        ("learn", ["v0", "v1", "v2", "v3"]),
        ("score", ["v4", "v5"]),
        ("learn", ["v4", "v5"]),
    ]


def test_a_batch_that_is_not_full_waits(tmp_path):
    room = Room(tmp_path, UPLOADS, watches("v1"), batch_wait_ms=60_000).start()

    room.trainer.step()

    assert (room.journal, len(room.state.pending.examples)) == ([], 1)


def test_nothing_is_offered_when_nothing_was_learned(tmp_path):
    room = Room(tmp_path, UPLOADS).start()

    room.trainer.offering.offer_next()

    assert room.journal == []


def test_a_first_bundle_that_could_not_be_written_is_offered_once_it_can(tmp_path, monkeypatch):
    """Nobody would have a model until somebody has watched something, on a store that is back."""
    room = Room(tmp_path, UPLOADS)

    def fail(*_):
        raise StoreUnavailable("503 Slow Down")

    with monkeypatch.context() as patch:
        patch.setattr(bundle, "write", fail)
        room.start()
        room.trainer.offering.offer_next()
    assert room.outbox.announcements() == []

    room.trainer.offering.offer_next()
    assert len(room.outbox.announcements()) == 1


def test_an_index_that_cannot_follow_is_waited_for(tmp_path):
    """Beyond two that wait, the one in service would lose its frozen towers."""
    waiting = [
        received(MODEL_BUNDLES, announcement(1, BundleState.IN_SERVICE)),
        *(received(MODEL_BUNDLES, announcement(generation)) for generation in (2, 3)),
    ]
    room = Room(tmp_path, [*UPLOADS, *waiting], watches("v1")).start()

    room.trainer.step()
    room.trainer.offering.offer_next()

    assert room.outbox.announcements() == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_nothing_is_published_while_the_loss_is_not_finite(tmp_path, loss):
    room = Room(tmp_path, UPLOADS, watches("v1"))
    room.learner.loss = loss
    room.start()
    room.generations.note(announcement(1, BundleState.IN_SERVICE))
    room.trainer.step()
    room.journal.clear()

    room.trainer.offering.publish_vectors()
    room.trainer.offering.offer_next()

    assert room.journal == []


def test_vectors_are_for_the_generation_in_service(tmp_path):
    room = Room(tmp_path, UPLOADS, watches("v1")).start()
    room.trainer.step()

    room.trainer.offering.publish_vectors()
    assert "item-vectors" not in room.effects()

    room.generations.note(announcement(1, BundleState.IN_SERVICE))
    room.trainer.offering.publish_vectors()
    assert room.effects()[-2:] == ["item-vectors", "acknowledged"]


def test_vectors_of_an_upload_with_other_content_are_published_without_learning(tmp_path):
    """index_sync leaves a trained video to the trainer; without watches no bundle comes."""
    changed = received(VIDEO_UPLOADS, upload("v3", category="chess"), offset=10)
    room = Room(tmp_path, UPLOADS, [changed, received(VIDEO_UPLOADS, upload("v4"), offset=11)])
    room.start()
    room.generations.note(announcement(1, BundleState.IN_SERVICE))
    room.trainer.step()

    room.trainer.offering.publish_vectors()

    sent = [record.key for record in room.outbox.sent if record.topic == "item-vectors"]
    assert sent == [b"v3"]


def test_watches_that_wait_for_an_upload_outlive_a_restart(tmp_path):
    room = Room(tmp_path, UPLOADS, watches("late")).start()
    room.trainer.step()
    room.trainer.checkpoint()

    late = received(VIDEO_UPLOADS, upload("late"), offset=10)
    again = Room(tmp_path, [late]).start()
    again.trainer.learn_due()

    assert again.learner.seen == ["u1/late/0"]


def test_no_vectors_are_published_for_a_generation_that_is_not_kept(tmp_path):
    """Somebody else's bundle is in service: its vectors cannot be computed here."""
    room = Room(tmp_path, UPLOADS, watches("v1")).start()
    room.trainer.step()
    room.generations.note(announcement(9, BundleState.IN_SERVICE))

    room.trainer.offering.publish_vectors()

    assert "item-vectors" not in room.effects()


def test_a_restart_continues_at_the_offsets_of_the_checkpoint(tmp_path):
    """Announcements are read from their beginning each time: they are what others say now."""
    said = received(MODEL_BUNDLES, announcement(1))
    room = Room(tmp_path, UPLOADS, [*watches("v1", "v2"), said]).start()
    room.trainer.step()
    room.trainer.checkpoint()

    again = Room(tmp_path, [received(MODEL_BUNDLES, announcement(1))]).start()

    assert again.learner.seen == ["u1/v1/0", "u1/v2/1"]
    assert again.feed.opened[-1][1] == {"video-uploads": {0: 10}, "watch-events": {0: 2}}
    assert again.outbox.announcements() == []


class FollowingFeed(ScriptedFeed):
    """Has read a topic when no batch has a record of it left."""

    def has_read(self, topics):
        names = {topic.name for topic in topics}
        return not any(record.topic in names for batch in self.batches for record in batch)


class SilentFeed(ScriptedFeed):
    """A broker of which the partition of the announcements is away."""

    is_away = True

    def has_read(self, topics):
        return not (self.is_away and MODEL_BUNDLES in topics) and super().has_read(topics)


def test_a_catalogue_is_read_to_its_end_however_long_that_takes(tmp_path):
    """100,000 videos took longer than the five seconds, and a third of them came too late."""
    feed = FollowingFeed(*([one] for one in UPLOADS))
    Room(tmp_path, feed=feed, catalogue_wait_s=0.0).trainer.start(lambda: False)

    assert feed.next_offsets == {VIDEO_UPLOADS.name: {0: 10}}
    manifest = next((tmp_path / "bundles").glob("*/manifest.json")).parent
    assert len(bundle.load(f"file://{manifest}").snapshot.video_ids) == 10


def test_a_restart_reads_what_serves_before_a_backlog(tmp_path):
    """Otherwise it takes the catalogue for one that nothing serves, and offers unasked."""
    Room(tmp_path, UPLOADS).start()
    said = [received(MODEL_BUNDLES, announcement(n, BundleState.IN_SERVICE)) for n in (1, 2)]
    feed = FollowingFeed(said, watches("v1"), watches("v2", offset=1))
    again = Room(tmp_path, feed=feed)
    again.trainer.start(lambda: False)

    assert feed.opened[0] == (["model-bundles"], {})
    assert again.generations.in_service == 2
    assert again.outbox.announcements() == []


def test_nothing_is_offered_before_it_is_known_what_serves(tmp_path):
    """A generation could be numbered as one that there is, and would be compared with none."""
    room = Room(tmp_path, UPLOADS, feed=SilentFeed(UPLOADS), catalogue_wait_s=0.0)
    room.trainer.start(lambda: False)
    assert room.outbox.announcements() == []
    assert room.trainer.offering.withheld == "the announcements are not read to their end yet"

    room.feed.is_away = False
    room.trainer.take()
    room.trainer.offering.offer_next()
    assert [offered.generation for offered in room.outbox.announcements()] == [1]


def test_a_restart_offers_what_a_checkpoint_holds_but_was_not_announced(tmp_path):
    """The process died between checkpoint and announcement: nobody has a bundle yet."""
    Room(tmp_path, UPLOADS).start()

    again = Room(tmp_path)
    again.trainer.start(lambda: False)

    assert [offered.generation for offered in again.outbox.announcements()] == [2]


def test_what_is_learned_while_starting_is_offered_too(tmp_path):
    """A restart may catch up with everything before it goes around for the first time."""
    Room(tmp_path, UPLOADS).start()
    room = Room(tmp_path, [received(MODEL_BUNDLES, announcement(1)), *watches("v1")]).start()
    assert room.learner.seen == ["u1/v1/0"]

    room.trainer.offering.offer_next()

    assert [offered.generation for offered in room.outbox.announcements()] == [2]


def test_an_idle_trainer_writes_no_checkpoints(tmp_path):
    room = Room(tmp_path, UPLOADS).start()

    room.trainer.checkpoint()

    assert room.journal == []


def test_after_an_erasure_even_an_idle_trainer_replaces_every_checkpoint_that_names_the_user(
    tmp_path,
):
    """Three are kept, so the third one after the erasure pushes the last of them out."""
    erasure = received(USER_DELETIONS, deletion(user_id="the-erased-user", at_ms=9))
    room = Room(tmp_path, UPLOADS, watches("v1", user_id="the-erased-user"), [erasure]).start()
    room.learner.seen.clear()  # the stand-in writes down what it was shown
    room.trainer.step()
    room.trainer.checkpoint()
    assert b"the-erased-user" in bytes_below(tmp_path / "checkpoints")
    room.trainer.step()
    room.learner.seen.clear()
    room.journal.clear()

    for _ in range(9):
        room.trainer.checkpoint()

    assert room.effects() == ["acknowledged", "checkpoint"] * 3
    assert b"the-erased-user" not in bytes_below(tmp_path / "checkpoints")


def keeps_generations(rollback):
    """Return a watch that lets everything pass, and keeps checkpoints in a real directory."""
    watch = KeepsNothing()
    watch.keep, watch.note_erasure = rollback.keep, rollback.note_erasure
    watch.drop_erased = rollback.drop_erased
    return watch


def test_a_restart_does_not_forget_which_kept_checkpoints_name_an_erased_user(tmp_path):
    """It came before the second checkpoint after the erasure, and nothing new is offered."""
    directory = tmp_path / "checkpoints"
    erasure = received(USER_DELETIONS, deletion(user_id="the-erased-user", at_ms=9))
    guarding = keeps_generations(Rollback(directory))
    room = Room(tmp_path, UPLOADS, watches("v1", user_id="the-erased-user"), [erasure],
                guarding=guarding).start()  # fmt: skip
    room.trainer.step()
    room.learner.seen.clear()  # the stand-in writes down what it was shown
    room.trainer.offering.offer()
    assert b"the-erased-user" in bytes_below(directory / "generations" / "2")
    room.trainer.step()
    room.trainer.checkpoint()
    again = restarted(tmp_path, [received(MODEL_BUNDLES, announcement(2))],
                      guarding=keeps_generations(Rollback(directory))).start()  # fmt: skip

    for _ in range(9):
        again.trainer.checkpoint()

    assert b"the-erased-user" not in bytes_below(directory)
    assert again.journal.count(("checkpoint",)) == 2


def test_a_checkpoint_that_fails_after_an_erasure_is_not_counted_as_one(tmp_path, monkeypatch):
    """Else the last of three older ones, which names the user, stays as long as nothing happens."""
    erasure = received(USER_DELETIONS, deletion(user_id="the-erased-user", at_ms=9))
    room = Room(tmp_path, UPLOADS, watches("v1", user_id="the-erased-user"), [erasure]).start()
    room.trainer.step()
    for _ in range(3):
        room.learner.seen.clear()
        room.trainer._has_changed = True
        room.trainer.checkpoint()
    room.trainer.step()
    with monkeypatch.context() as patched:
        patched.setattr(room.checkpoints, "save", Mock(side_effect=OSError(errno.ENOSPC, "full")))
        room.trainer.checkpoint()

    for _ in range(9):
        room.trainer.checkpoint()

    assert b"the-erased-user" not in bytes_below(tmp_path / "checkpoints")


def bytes_below(directory):
    """Return the contents of all files in *directory*."""
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def test_dead_letters_are_acknowledged_before_their_offsets_are_passed(tmp_path):
    room = Room(tmp_path, UPLOADS, watches("v1")).start()
    room.trainer.step()
    room.journal.clear()

    room.trainer.checkpoint()

    assert room.effects() == ["acknowledged", "checkpoint"]


def test_a_full_disk_does_not_stop_learning(tmp_path):
    room = Room(tmp_path, UPLOADS, watches("v1"), checkpoint_every_s=0.1).start()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    room.checkpoints.save = fail
    room.trainer.run(_after(3), lambda: None)

    assert room.learner.seen == ["u1/v1/0"]


def test_a_checkpoint_is_saved_on_stop(tmp_path):
    room = Room(tmp_path, UPLOADS, watches("v1"))

    room.trainer.run(_after(3), lambda: None)

    assert room.checkpoints.newest().offsets["watch-events"] == {0: 1}


def test_each_checkpoint_commits_its_offsets(tmp_path):
    """So Kafka's tools show the lag: never more than what is saved."""
    room = Room(tmp_path, UPLOADS, watches("v1"))

    room.trainer.run(_after(3), lambda: None)

    assert room.feed.told[-1] == room.checkpoints.newest().offsets


def test_freed_memory_is_given_back_before_each_bundle_and_after_its_checkpoint(
    tmp_path, monkeypatch
):
    """What batches have freed is no part of the most that a process takes with its bundle."""
    room = Room(tmp_path, UPLOADS, watches("v1")).start()
    for place in ("trainer.loop", "trainer.publish.offering"):
        monkeypatch.setattr(f"{place}.give_back_memory", lambda: room.journal.append(("free",)))
    export = room.learner.bundle_files
    monkeypatch.setattr(
        room.learner, "bundle_files", lambda: room.journal.append(("bundle",)) or export()
    )

    room.trainer.offering.offer()
    room.trainer.run(_after(1), lambda: None)

    of_memory = [one for one in room.effects() if one in {"free", "bundle", "checkpoint"}]
    assert of_memory[:4] == ["free", "bundle", "checkpoint", "free"]


def test_the_guard_is_told_once_that_all_is_read(tmp_path):
    """Until then no bundle follows that of another trainer."""
    watch = KeepsNothing()
    watch.is_full, told = False, []
    room = Room(tmp_path, UPLOADS, watches("v1"), guarding=watch)

    def caught_up():
        told.append(room.feed.has_read(ALL))
        watch.has_caught_up = True

    watch.caught_up = caught_up
    room.trainer.run(_after(4), lambda: None)

    assert told == [True]


def test_a_bundle_and_its_checkpoint_are_made_of_blocks_that_are_mapped_apart(
    tmp_path, monkeypatch
):
    """Each is a little larger than the last: in the heap they would leave holes that fit none."""
    room, are_apart = Room(tmp_path, UPLOADS, watches("v1")).start(), []
    snapshot, export = checkpoint_codec.snapshot, room.learner.bundle_files
    monkeypatch.setattr(
        checkpoint_codec,
        "snapshot",
        lambda state: are_apart.append(memory._num_apart) or snapshot(state),
    )
    monkeypatch.setattr(
        room.learner, "bundle_files", lambda: are_apart.append(memory._num_apart) or export()
    )

    room.trainer.offering.offer()

    assert len(are_apart) == 2
    assert all(are_apart)
    assert memory._num_apart == 0


class RankingRoom(Room):
    """A room whose trainer joins for a ranker."""

    def __init__(self, tmp_path, *batches):
        super().__init__(tmp_path, *batches)
        store = RocksJoinStore(tmp_path / "checkpoints" / "joiner")
        self.state.joiner = facts.Delivery(store).joiner
        self.state.ranker = self.ranker = RecordingRanker()


def labels(room):
    """Return the videos that were learned, and whether they were watched."""
    return sorted((one.video_id, one.is_watched) for one in room.ranker.learned)


SHOWN = [
    received(RANKING_LOG, facts.logged("r", "v1", "v2")),
    received(IMPRESSIONS, facts.shown("r", "v1", "v2")),
]
PASSED = [
    received(topic, record, offset=9)
    for topic, record in zip((IMPRESSIONS, WATCH_EVENTS), facts.passing(500), strict=True)
]


def test_what_was_shown_before_a_restart_is_joined_with_what_is_watched_after_it(tmp_path):
    """And what came between the checkpoint and the crash happens once."""
    watched = received(WATCH_EVENTS, facts.watched("r", "v2", at_ms=5), offset=3)
    room = RankingRoom(tmp_path, UPLOADS, SHOWN, [watched, *PASSED]).start()
    room.trainer.step()
    room.trainer.checkpoint()
    room.trainer.step()
    assert labels(room) == [("v1", False), ("v2", True)]
    room.state.joiner.close()

    resumed = RankingRoom(tmp_path, [], [watched, *PASSED]).start()
    resumed.trainer.step()

    assert labels(resumed) == [("v1", False), ("v2", True)]
    resumed.state.joiner.close()


def test_examples_that_wait_for_their_batch_are_in_the_checkpoint(tmp_path):
    """The joiner has told them once, and will not again."""
    room = RankingRoom(tmp_path, UPLOADS, SHOWN + PASSED).start()
    room.trainer.take()
    room.trainer.checkpoint()
    assert room.ranker.learned == []
    room.state.joiner.close()

    resumed = RankingRoom(tmp_path, []).start()
    resumed.trainer.learn_due()

    assert labels(resumed) == [("v1", False), ("v2", False)]
    resumed.state.joiner.close()


class LosingFeed(ScriptedFeed):
    """A broker that has forgotten everything: the first poll after a resume says so."""

    def poll(self, *, most, timeout_s):
        if self.opened[-1][1]:
            raise BrokerLostRecordsError("lost")
        return super().poll(most=most, timeout_s=timeout_s)


class RecreatedFeed(ScriptedFeed):
    """A broker whose topics were created again: opening them with ids says so."""

    def open(self, topics, offsets, topic_ids=()):
        super().open(topics, offsets)
        self.remembered = dict(topic_ids)
        if topic_ids:
            raise BrokerLostRecordsError("created again")


def test_a_checkpoint_remembers_which_topics_its_offsets_are_of(tmp_path):
    """Of a topic that is read at each start from its beginning there is no offset, and no id."""
    Room(tmp_path, UPLOADS, watches("v1")).start()

    assert Room(tmp_path).checkpoints.newest().topic_ids == {"video-uploads": 7}


@pytest.mark.parametrize("after_broker_loss", ["stop", "continue"])
def test_topics_that_were_created_again_are_a_loss(tmp_path, after_broker_loss):
    """Whether that ends the trainer is the same choice as for records that are gone."""
    Room(tmp_path, UPLOADS).start()
    again = Room(tmp_path, feed=RecreatedFeed(), after_broker_loss=after_broker_loss)

    if after_broker_loss == "stop":
        with pytest.raises(BrokerLostRecordsError):
            again.start()
    else:
        again.start()
        assert (again.feed.opened[-1][1], again.feed.remembered) == ({}, {})


def test_a_broker_that_lost_the_records_stops_the_trainer(tmp_path):
    Room(tmp_path, UPLOADS).start()

    with pytest.raises(BrokerLostRecordsError):
        Room(tmp_path, feed=LosingFeed()).start()


def test_after_an_accepted_loss_it_reads_from_the_beginning_and_keeps_its_state(tmp_path):
    Room(tmp_path, UPLOADS, watches("v1")).start()
    first = Room(tmp_path, watches("v1")).start()
    first.trainer.step()
    first.trainer.checkpoint()

    again = Room(tmp_path, feed=LosingFeed(watches("v2")), after_broker_loss="continue")
    again.trainer.start(lambda: False)
    again.trainer.step()

    assert again.feed.opened[-1][1] == {}
    assert again.learner.seen == ["u1/v1/0", "u1/v2/0"]
    assert len(again.outbox.announcements()) == 1


def test_after_an_accepted_loss_nothing_is_left_out_for_the_offset_of_another_record(tmp_path):
    """New records have the offsets of old ones, and a checkpoint of before knows the old logs."""
    Room(tmp_path, UPLOADS).start()
    old = Rollback(tmp_path / "checkpoints")
    old.keep(1, next((tmp_path / "checkpoints").glob("ckpt-*")))
    old.quarantine.add(
        reason="bad", now_ms=T0, generation=1, first={}, end={WATCH_EVENTS.name: {0: 5}}
    )
    rollback = Rollback(tmp_path / "checkpoints")
    feed = LosingFeed(watches("v2"))
    again = Room(tmp_path, feed=feed, rollback=rollback, after_broker_loss="continue").start()
    again.trainer.step()

    assert again.learner.seen == ["u1/v2/0"]
    assert rollback.generations == []
    assert Rollback(tmp_path / "checkpoints").quarantine.entries == []


def _after(num_steps):
    """Return a stop that says so after it was asked some times."""
    left = [num_steps + 3]

    def should_stop():
        left[0] -= 1
        return left[0] < 0

    return should_stop


def restarted(tmp_path, *batches, replayed=(), **settings):
    """Return a trainer on the same disk, whose feed still has the records *replayed*."""
    room = Room(tmp_path, *batches, **settings)
    room.feed.replayed = list(replayed)
    return room


def test_a_restart_does_again_what_the_journal_says_before_it_takes_anything_new(tmp_path):
    """A batch that was not full ends where it ended the first time, and so does a generation."""
    room = Room(tmp_path, UPLOADS, watches("v1", "v2"), watches("v3", offset=2)).start()
    room.trainer.take()
    room.trainer.learn_due()
    room.trainer.offering.offer_next()
    room.trainer.take()
    seen = [effect for effect in room.journal if effect[0] in ("learn", "freeze")]
    announced = [received(MODEL_BUNDLES, announcement(2))]
    replayed = watches("v1", "v2", "v3")
    again = restarted(tmp_path, announced, replayed=replayed, batch_wait_ms=60_000)
    for path in (tmp_path / "checkpoints").glob("ckpt-*2"):
        (path / "manifest.sha256").write_bytes(b"damaged")

    again.trainer.start(lambda: False)

    assert [effect for effect in again.journal if effect[0] in ("learn", "freeze")] == seen
    assert [one.video_id for one in again.state.pending.examples] == ["v3"]
    assert again.feed.next_offsets["watch-events"] == {0: 3}


def test_an_announcement_with_the_highest_number_is_told_with_the_remedy(tmp_path):
    """All that followed would be rejected by every reader, and nobody would say so."""
    room = Room(tmp_path, [*UPLOADS, received(MODEL_BUNDLES, announcement(MAX_GENERATION))]).start()

    room.trainer.offering.offer()

    assert room.outbox.announcements() == []
    assert f"b{MAX_GENERATION} was announced" in room.trainer.offering.withheld
    assert "tombstone" in room.trainer.offering.withheld


@pytest.mark.parametrize("with_records", [False, True])
def test_an_announcement_never_ends_a_batch(tmp_path, monkeypatch, with_records):
    """Announcements are not journalled: a batch that one ended would end elsewhere if repeated.

    Of a backlog more than a usual batch waits, and would be full once fewer records come.
    """
    users = [watches("v1", user_id=f"u{n}", offset=n)[0] for n in range(7)]
    later = watches("v2", user_id="u7", offset=7) if with_records else []
    room = Room(tmp_path, UPLOADS, backlog(monkeypatch, users),
                [received(MODEL_BUNDLES, announcement(1)), *later], batch_wait_ms=60_000,
                backlog_batch_size=10).start()  # fmt: skip
    for _ in range(2):
        room.trainer.take()
    again = restarted(tmp_path, replayed=users + later, batch_wait_ms=60_000,
                      backlog_batch_size=10)  # fmt: skip

    again.trainer.start(lambda: False)

    assert learned_batches(room) == learned_batches(again) == ([8] if with_records else [])
    assert again.state.pending.examples == room.state.pending.examples


def test_a_checkpoint_that_is_being_written_is_finished_when_an_error_ends_the_trainer(tmp_path):
    """The process ends under its threads, and would begin again from the checkpoint before."""
    room = Room(tmp_path, writer=ThreadPoolExecutor(1)).start()
    save = room.checkpoints.save

    def save_slowly(*args, **kwargs):
        sleep(0.3)
        return save(*args, **kwargs)

    room.checkpoints.save = save_slowly
    before = room.checkpoints.newest_number
    room.trainer.checkpoint()
    room.trainer.close()

    assert room.checkpoints.newest_number == before + 1


def test_a_trainer_that_is_stopped_while_it_repeats_the_journal_saves_nothing(tmp_path):
    """Records that were read for a step that was not done must not be passed."""
    room = Room(tmp_path, UPLOADS, watches("v1", "v2")).start()
    room.trainer.take()
    saved = room.checkpoints.newest().number
    again = restarted(tmp_path, [], replayed=watches("v1", "v2"))

    again.trainer.run(lambda: bool(again.feed.next_offsets), lambda: None)

    assert again.checkpoints.newest().number == saved


def test_a_bundle_whose_checkpoint_cannot_be_kept_is_not_announced(tmp_path):
    """There would be no way back to it. The next one is another generation, and passes."""
    disk = KeepsNothing()
    room = Room(tmp_path, UPLOADS, guarding=disk)
    room.trainer.start(lambda: False)
    assert room.outbox.announcements() == []
    assert "No space left" in room.trainer.offering.withheld
    assert room.trainer._parts.metrics.counts["bundles_withheld"] == 1
    assert +room.trainer._parts.metrics.withheld == {"checkpoint": 1}

    disk.is_full = False
    room.trainer.offering.offer()
    room.trainer.step()
    assert [one.generation for one in room.outbox.announcements()] == [2]
    assert room.trainer.offering.withheld == ""
