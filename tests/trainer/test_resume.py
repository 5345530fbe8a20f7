"""A trainer that dies between checkpoints: in what it learned, each example counts once."""

import pytest
from confluent_kafka import Consumer, Producer

from benchmarks.stack.inline_executor import InlineExecutor
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.process.clock import ManualClock
from contract.wire.events import encode
from contract.wire.topics import VIDEO_UPLOADS, WATCH_EVENTS
from tests.support.builders import T0, upload, watch
from tests.trainer.doubles import RecordingLearner, state_of
from trainer.input.dispatch import Intake
from trainer.input.feed import Feed, feed_config, identify
from trainer.loop import Trainer
from trainer.parts import Parts
from trainer.publish.generations import Generations
from trainer.publish.publishing import BundlePublisher
from trainer.settings import TrainerSettings
from trainer.state.checkpoint import Checkpoints
from trainer.state.journal import Journal

pytestmark = [pytest.mark.slow, pytest.mark.long]
NUM_VIDEOS = 40
NUM_EVENTS = 200


def watches(start, stop):
    """Return watches of seven users; each watches every video once, and some are repeated."""
    return [
        watch(f"v{n // 7 % NUM_VIDEOS}", user_id=f"u{n % 7}", at_ms=n) for n in range(start, stop)
    ]


def life(kafka, directory):
    """Return a new trainer process, as far as state goes, on the same disk and broker."""
    learner, generations = RecordingLearner(), Generations()
    state = state_of(learner=learner)
    feed = Feed(Consumer(feed_config(kafka)), kafka.layout, identify(kafka))
    outbox = Outbox(Producer(producer_config(kafka)))
    clock = ManualClock(T0)
    settings = TrainerSettings(
        batch_size=5, batch_wait_ms=0, checkpoint_every_s=3_600, publish_every_s=3_600
    )
    publisher = BundlePublisher(outbox, kafka.layout, f"file://{directory}/bundles", clock)
    parts = Parts(
        state=state,
        generations=generations,
        feed=feed,
        intake=Intake(state, generations, outbox, kafka.layout, clock),
        outbox=outbox,
        publisher=publisher,
        checkpoints=Checkpoints(directory / "checkpoints"),
        journal=Journal(directory / "checkpoints"),
        writer=InlineExecutor(),
        clock=clock,
        state_clock=clock,
    )
    trainer = Trainer(parts, settings)
    clock.advance(ms=1)
    trainer.start(lambda: False)
    return trainer, state, feed


def step_until(trainer, feed, offset):
    """Let the trainer learn up to *offset*."""
    while feed.next_offsets.get("watch-events", {}).get(0, 0) < offset:
        trainer.step()


def produce(kafka, topic, events):
    """Produce *events* and wait until they are there."""
    outbox = Outbox(Producer(producer_config(kafka)))
    for event in events:
        key = getattr(event, topic.key_field).encode()
        outbox.send([Outgoing(kafka.layout.name(topic), key, encode(event))])
    outbox.flush()


def undisturbed(events):
    """Return what a trainer that never died has seen."""
    state = state_of(*(upload(f"v{n}") for n in range(NUM_VIDEOS)))
    for event in events:
        state.watch(event)
    state.learn()
    return state.learner.seen


def test_each_example_is_learned_once_whenever_the_trainer_dies(kafka, tmp_path):
    """Checkpoint, learn on, die; three times over, with a batch half full at a checkpoint."""
    produce(kafka, VIDEO_UPLOADS, [upload(f"v{n}") for n in range(NUM_VIDEOS)])
    for start in range(0, NUM_EVENTS, 50):
        produce(kafka, WATCH_EVENTS, watches(start, start + 30))
        trainer, state, feed = life(kafka, tmp_path)
        step_until(trainer, feed, start + 30)
        trainer.checkpoint()
        produce(kafka, WATCH_EVENTS, watches(start + 30, start + 50))
        step_until(trainer, feed, start + 50)
        feed.close()  # dies here: everything since the checkpoint is forgotten

    trainer, state, feed = life(kafka, tmp_path)
    step_until(trainer, feed, NUM_EVENTS)
    feed.close()

    assert state.learner.seen == undisturbed(watches(0, NUM_EVENTS))
    assert state.progressive.num_examples == len(state.learner.seen)


def test_a_damaged_checkpoint_is_a_longer_way_back_and_nothing_worse(kafka, tmp_path):
    produce(kafka, VIDEO_UPLOADS, [upload(f"v{n}") for n in range(NUM_VIDEOS)])
    produce(kafka, WATCH_EVENTS, watches(0, 60))
    trainer, state, feed = life(kafka, tmp_path)
    step_until(trainer, feed, 60)
    trainer.checkpoint()
    feed.close()
    newest = max((tmp_path / "checkpoints").glob("ckpt-*"))
    (newest / "study.msgpack").write_bytes(b"")

    trainer, state, feed = life(kafka, tmp_path)
    step_until(trainer, feed, 60)
    feed.close()

    assert state.learner.seen == undisturbed(watches(0, 60))
