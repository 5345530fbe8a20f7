"""Each model of the trainer learns from the topics, comes into service and answers."""

import itertools
import json
import os

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from tests.support.stacks import running_stack
from trainer.learn.registry import NAMES

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.long]

ALWAYS = ("tdm",)
"""The one that streams serves otherwise than all others; the default is in every other module."""

ONCE_IN_A_WHILE = pytest.mark.skipif(
    not os.environ.get("NEXTWATCH_TEST_MODELS"), reason="a stack for each model: make test-models"
)
CATEGORIES = ("cooking", "chess", "sailing")


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name in ALWAYS else ONCE_IN_A_WHILE)
        for name in NAMES
        if name != "youtube_dnn"
    ]
)
def model(request):
    return request.param


def test_a_model_learns_from_the_topics_and_answers(model):
    """What answers is a bundle of that model, scored on watches that it learned from afterwards."""
    settings = {"trainer": {"NEXTWATCH_TRAINER_MODEL": model}}
    numbers = itertools.count()
    with (
        running_stack("embedded", publish_every_s=2.0, env_of=settings) as stack,
        player_of(stack) as player,
    ):
        for category in CATEGORIES:
            for n in range(12):
                player.upload(f"{category}{n}", category)
        player.flush()
        bundles = stack.directory / "bundles"

        def learned():
            number = next(numbers)
            category = CATEGORIES[number % 3]
            events = [player.watch(f"u{number}", f"{category}{n}") for n in range(6)]
            answer = player.answer_to(events[-1])
            if answer["bundle_id"] is None:
                return None
            card = json.loads((bundles / answer["bundle_id"] / "manifest.json").read_text())
            return (answer, card) if card["metrics"]["progressive_examples"] >= 10 else None

        answer, card = eventually(learned, within_s=60) or (None, None)

    assert answer is not None, "no bundle that has learned came into service"
    assert card["model"] == model
    sources = {item["source"] for item in answer["items"]}
    assert ("tdm" if model == "tdm" else "ann") in sources
