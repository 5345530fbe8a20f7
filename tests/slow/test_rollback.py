"""A generation is withdrawn on a running system: serving, index and trainer all go back."""

import json
import os

import pytest
from typer.testing import CliRunner

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from nextwatch.commands import cli
from tests.slow.cluster_stacks import facts
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NUM_VIDEOS = 60


@pytest.fixture
def stack():
    with running_stack("embedded", publish_every_s=8.0) as stack:
        yield stack


@pytest.fixture
def player(stack):
    with player_of(stack) as player:
        yield player


def served(stack):
    """Return the generations that the worker has put in service, in order."""
    return [fact["generation"] for fact in facts(stack.process("streams"), "bundle_in_service")]


def watch_until(player, is_so, *, within_s=120):
    """Let new users watch until *is_so*."""
    count = 0

    def watch_and_look():
        nonlocal count
        for number in range(10):
            count += 1
            player.watch(f"u{count // 5}", f"v{count * (number + 1) % NUM_VIDEOS}")
        player.flush()
        return is_so()

    assert eventually(watch_and_look, within_s=within_s, every_s=0.3)


def models(stack, *arguments):
    """Run `nextwatch models` against *stack*."""
    env = {**os.environ, **stack.env, "TERM": "dumb", "COLUMNS": "200"}
    answer = CliRunner().invoke(cli.app, ["models", *arguments], env=env)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_an_operator_goes_back_and_the_system_goes_on_from_there(stack, player):
    for number in range(NUM_VIDEOS):
        player.upload(f"v{number}", ("cooking", "guitar", "chess")[number % 3])
    player.flush()
    watch_until(player, lambda: len(served(stack)) >= 3)
    assert "in service" in models(stack, "list")
    before = served(stack)

    models(stack, "rollback", "--reason", "it is a test")
    trainer = stack.process("trainer")
    assert eventually(lambda: served(stack)[-1] < max(before), within_s=20)
    back_to = served(stack)[-1]
    assert eventually(lambda: facts(trainer, "trainer_starts_over"), within_s=120), (
        trainer.log_tail()
    )
    [entry] = facts(trainer, "batches_quarantined")
    assert (entry["generation"], entry["reason"]) == (back_to, "it is a test")
    assert eventually(lambda: served(stack)[-1] == back_to, within_s=20)
    assert player.answer_to(player.watch("u1", "v1"))["generation"] == back_to

    listed = {b["generation"]: b for b in json.loads(models(stack, "list", "--json"))}
    withdrawn = [g for g, b in listed.items() if b["state"] == "withdrawn"]
    assert withdrawn
    assert min(withdrawn) > back_to

    models(stack, "promote", str(min(withdrawn)), "--reason", "it was fine")
    assert eventually(lambda: served(stack)[-1] == min(withdrawn), within_s=60)
    told = json.loads(models(stack, "show", str(min(withdrawn))))
    assert told["revision"] == 1
    difference = json.loads(models(stack, "diff", str(back_to), str(min(withdrawn)), "--json"))
    assert difference["num_videos"] == [NUM_VIDEOS, NUM_VIDEOS]
