"""What is gone back from, what is not, and for how long nothing is published afterwards."""

from types import SimpleNamespace

import pytest

from contract.metrics.definitions import GUARD_ALARMS
from contract.process.clock import ManualClock
from contract.wire.events import BundleState
from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from tests.support.builders import T0
from tests.trainer.doubles import announcement, state_of
from trainer.guard.guard import Guard
from trainer.guard.labels import THRESHOLD
from trainer.guard.paired import MOST_LOST
from trainer.guard.rollback import Rollback
from trainer.guard.service_watch import HELD_PLAYS, ServiceWatch
from trainer.metrics import TrainerMetrics
from trainer.publish.generations import Generations
from trainer.state.checkpoint import Checkpoints

SERVES, WITHDRAWN = BundleState.IN_SERVICE, BundleState.WITHDRAWN
READ = {"watch-events": {0: 1_000}}


def a_guard():
    features = FeatureEncoder(content_buckets=64, context_buckets=8, completion=CompletionRule())
    return Guard(Vocabulary(features), CompletionRule(), cpu_s=lambda: 0.0)


class Place:
    """A directory of checkpoints, and what was announced."""

    def __init__(self, directory):
        self.directory = directory
        self.announced = []
        self.generations = Generations()

    def started(self, metrics=None, *, has_caught_up=True):
        """Return the watch of a trainer that has started, and usually has read everything."""
        guard = a_guard()
        watch = ServiceWatch(
            SimpleNamespace(touched={2, 3}, metrics=dict),
            guard,
            self.generations,
            Rollback(self.directory),
            SimpleNamespace(announce_all=self.announced.extend),
            str(self.directory / "bundles"),
            ManualClock(T0),
            *(() if metrics is None else (metrics.counts,)),
        )
        if has_caught_up:
            watch.caught_up()
        return watch

    def keep(self, *generations):
        """Keep the checkpoint of each, as a trainer with a guard does."""
        for generation in generations:
            saved = Checkpoints(self.directory).save(
                {"a": b"1"}, offsets={"watch-events": {0: 10 * generation}}, created_at_ms=T0
            )
            Rollback(self.directory).keep(generation, saved)

    def hear(self, **states):
        """Hear of generations by their states: ``g3=WITHDRAWN``."""
        for name, state in states.items():
            self.generations.note(announcement(int(name.removeprefix("g")), state))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_generation_that_was_withdrawn_without_a_guard_is_not_gone_back_from(place):
    """The guard was on, then off for many generations, and is on again."""
    place.keep(2, 3)
    place.hear(g2=SERVES, g3=SERVES, g8=SERVES, g9=SERVES)
    place.hear(g3=WITHDRAWN)
    watch = place.started()
    watch.look(READ)

    assert not watch.has_gone_back
    assert place.announced == []
    assert watch.rollback.quarantine.entries == []


def test_what_serves_stays_when_only_older_checkpoints_are_kept(place):
    """The generation in service was offered without a guard: there is no way back to it."""
    place.keep(2, 3)
    place.hear(g3=SERVES, g8=SERVES)
    place.keep(9)
    place.hear(g9=SERVES)
    place.hear(g9=WITHDRAWN)
    watch = place.started()
    watch.look(READ)

    assert place.generations.in_service == 8
    assert place.announced == []
    assert not watch.has_gone_back
    assert watch.is_held


def test_the_newest_withdrawn_generation_is_gone_back_from(place):
    place.keep(2, 3)
    place.hear(g2=SERVES, g3=SERVES)
    place.hear(g3=WITHDRAWN)
    watch = place.started()
    watch.look(READ)

    assert watch.has_gone_back
    assert Checkpoints(place.directory).newest().offsets == {"watch-events": {0: 20}}


def test_a_generation_that_came_while_the_operator_withdrew_is_gone_back_from_as_well(place):
    """It was learned by the same trainer, a moment later."""
    place.keep(2, 3, 4)
    place.hear(g2=SERVES, g3=SERVES)
    watch = place.started()
    watch.look(READ)
    place.hear(g3=WITHDRAWN, g4=SERVES)
    watch.look(READ)

    assert [(one.generation, one.state) for one in place.announced] == [(4, WITHDRAWN)]
    assert watch.has_gone_back
    assert place.generations.in_service == 2


def test_a_trainer_that_crashes_after_going_back_still_publishes_nothing(place):
    """The checkpoint it starts from is older than the trouble, and knows nothing of it."""
    place.keep(2, 3)
    place.hear(g2=SERVES, g3=SERVES)
    place.hear(g3=WITHDRAWN)
    place.started().look(READ)

    again = place.started()
    assert again.is_held
    again.guard.labels.num_plays += HELD_PLAYS
    again.look(READ)
    assert not again.is_held
    assert not place.started().is_held


def test_while_it_is_behind_a_trainer_replaces_its_own_generations_alone(place):
    """A backlog may take an hour, in which the first generation, which knows nothing, serves."""
    place.hear(g2=SERVES)
    watch = place.started(has_caught_up=False)
    assert watch.why_not_offer() is None

    place.hear(g7=SERVES)
    assert "read the topics" in watch.why_not_offer()


def test_what_a_generation_knows_of_outlives_a_restart(place):
    """Else one that has learned from the trouble would be gone back to."""
    place.keep(2, 3, 4)
    place.hear(g2=SERVES, g3=SERVES, g4=SERVES)
    before, watch = a_guard(), place.started()
    for generation, num_plays in ((2, 100), (3, 300), (4, 400)):
        before.labels.num_plays = num_plays
        before.note_published(generation)
    watch.guard.load_state(before.state())
    watch.guard.labels.evidence, watch.guard.labels.began_at = 100.0, 200
    watch.look(READ)

    assert place.generations.in_service == 2


def test_a_generation_that_is_worse_than_the_one_before_is_withdrawn(place):
    place.keep(2, 3)
    place.hear(g2=SERVES, g3=SERVES)
    watch = place.started()
    watch.look(READ)
    watch.guard.former = SimpleNamespace(generation=2)
    watch.guard.versus_former.lost = MOST_LOST
    watch.look(READ)

    assert [(one.generation, one.state) for one in place.announced] == [(3, WITHDRAWN)]
    assert watch.has_gone_back


def test_a_generation_that_index_sync_has_deleted_is_not_gone_back_to(place):
    """What was shown is known ten generations later: all were withdrawn for one that was gone."""
    place.keep(9)
    place.hear(g2=SERVES, g8=SERVES, g9=SERVES)
    place.generations.forget("b2")
    watch = place.started()
    watch.look(READ)
    shares = watch.guard.shares
    shares.shown, shares.watched = {2: 5_000, 9: 5_000}, {2: 2_500, 9: 100}

    watch.look(READ)

    assert watch.counts["alarms"] == 1
    assert place.announced == []
    assert place.generations.in_service == 9
    assert not watch.has_gone_back


def test_an_alarm_is_still_counted_after_going_back(place):
    """The counts of what is learned are those of the older checkpoint; the alert went by them."""
    place.keep(2, 3)
    place.hear(g2=SERVES, g3=SERVES)
    metrics = TrainerMetrics()
    watch = place.started(metrics)
    watch.look(READ)
    watch.guard.former = SimpleNamespace(generation=2)
    watch.guard.versus_former.lost = MOST_LOST
    watch.look(READ)
    assert watch.has_gone_back

    metrics.show_if_due(state_of(), in_service=2)

    assert [one.value for one in metrics.samples() if one.metric is GUARD_ALARMS] == [1]


@pytest.mark.parametrize(
    ("began_at", "first"),
    [
        pytest.param(250, {0: 400, 1: 200}, id="since-the-look-before"),
        pytest.param(50, {0: 30}, id="since-before-this-process-began"),
    ],
)
def test_what_was_read_since_labels_turned_bad_is_left_out(place, began_at, first):
    """From the look before the turn on, since one look reads many records.

    After a restart no look may be so old: then all is left out that the checkpoint does not know.
    """
    place.keep(2, 3)
    place.hear(g2=SERVES, g3=SERVES)
    watch = place.started()
    labels = watch.guard.labels
    for num_plays in (100, 200, 300):
        labels.num_plays = num_plays
        watch.look({"watch-events": {0: 2 * num_plays, 1: num_plays}})
    labels.evidence, labels.began_at = 2 * THRESHOLD, began_at

    watch.look({"watch-events": {0: 700, 1: 350}})

    (entry,) = watch.rollback.quarantine.entries
    assert entry.first["watch-events"] == first
    assert entry.end["watch-events"] == {0: 700, 1: 350}
