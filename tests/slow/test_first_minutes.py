"""A new user in a small catalogue: a skip is no like, and a search is answered.

Each is asked of the untrained model and again after generations of learning, in which everybody
watched cooking.
"""

import uuid

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CATEGORIES = ("guitar", "cooking", "football")
PER_CATEGORY = 15
TOP = 10


SEARCHES = (("guitar chords", "guitar", 8), ("guitars", "guitar", 8), ("机器学习", "ml", 3))
"""A query, how the ids of what it is about begin, and how many of these come first at least."""

UNTRAINED, TRAINED = "untrained", "trained"


@pytest.fixture(scope="module")
def answers():
    """Ask everything of the untrained model, let everybody watch cooking, and ask again."""
    with running_stack("embedded", publish_every_s=5.0) as stack, player_of(stack) as player:
        for category in CATEGORIES:
            for n in range(PER_CATEGORY):
                player.upload(f"{category}-{n}", category, duration_ms=60_000)
        for n in range(3):
            title = f"机器学习入门教程 {n}"
            player.upload(f"ml-{n}", "tech", title=title, tags=[], duration_ms=60_000)
        player.flush()
        wait_for_generation(player, 1)
        answers = {UNTRAINED: ask(player)}
        for n in range(60):
            player.watch(f"cook-{n % 12}", f"cooking-{n % PER_CATEGORY}", duration_ms=60_000)
        wait_for_generation(player, 3)
        return answers | {TRAINED: ask(player)}


def wait_for_generation(player, least):
    """Wait until a generation from *least* on answers with a whole list."""

    def come():
        answer = player.answer_to(player.watch(f"probe-{uuid.uuid4()}", "cooking-0"))
        return answer["generation"] >= least and len(answer["items"]) >= TOP

    assert eventually(come, within_s=90, every_s=0.5), f"generation {least} did not come"


def ask(player):
    """Return what a new user is given after one event: a watch, a skip, or a search."""

    def first(event_id):
        return [item["video_id"] for item in player.answer_to(event_id)["items"][:TOP]]

    def watch(watch_ms):
        user_id = f"new-{uuid.uuid4()}"
        return first(player.watch(user_id, "guitar-1", watch_ms=watch_ms, duration_ms=60_000))

    searched = {
        query: first(player.search(f"new-{uuid.uuid4()}", query)) for query, _, _ in SEARCHES
    }
    return {"watch": watch(60_000), "skip": watch(1_000)} | searched


def num_of(kind, video_ids):
    return sum(video_id.startswith(kind) for video_id in video_ids)


@pytest.mark.parametrize("when", [UNTRAINED, TRAINED])
def test_a_skip_brings_fewer_of_its_kind_than_a_watch(answers, when):
    """A second of sixty is no reason for nine videos of the same.

    What a whole watch brings once everybody has watched cooking is for the model to say.
    """
    given = answers[when]

    assert num_of("guitar", given["watch"]) >= 6 or when == TRAINED
    assert num_of("guitar", given["skip"]) <= TOP // 3


@pytest.mark.parametrize("when", [UNTRAINED, TRAINED])
@pytest.mark.parametrize(("query", "kind", "least"), SEARCHES)
def test_a_search_is_answered_whatever_is_popular(answers, when, query, kind, least):
    """By the words that were typed, a form of them, or a part of a title without spaces."""
    assert num_of(kind, answers[when][query][:least]) == least
