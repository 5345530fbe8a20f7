"""A new user in a small catalogue: a skip is no like, and a search is answered.

Each is asked of the untrained model and again after generations of learning, in which everybody
watched cooking.
"""

import uuid

import pytest

from tests.e2e.clients import eventually, player_of
from tests.e2e.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

CATEGORIES = ("guitar", "cooking", "football")
PER_CATEGORY = 15
TOP = 10


@pytest.fixture(scope="module")
def stack():
    with running_stack("embedded", publish_every_s=5.0) as stack:
        yield stack


@pytest.fixture(scope="module")
def player(stack):
    with player_of(stack) as player:
        for category in CATEGORIES:
            for n in range(PER_CATEGORY):
                player.upload(f"{category}-{n}", category, duration_ms=60_000)
        for n in range(3):
            title = f"机器学习入门教程 {n}"
            player.upload(f"ml-{n}", "tech", title=title, tags=[], duration_ms=60_000)
        player.flush()
        yield player


@pytest.fixture(scope="module", params=["before learning", "after learning"])
def generation(request, player):
    """Wait for the generation that the test is about; everybody watches cooking meanwhile."""
    least = 1 if request.param == "before learning" else 3
    if least > 1:
        for n in range(60):
            player.watch(f"cook-{n % 12}", f"cooking-{n % PER_CATEGORY}", duration_ms=60_000)

    def come():
        answer = player.answer_to(player.watch(f"probe-{uuid.uuid4()}", "cooking-0"))
        is_whole = len(answer["items"]) >= TOP
        return answer["generation"] if answer["generation"] >= least and is_whole else None

    reached = eventually(come, within_s=90, every_s=0.5)
    assert reached, f"generation {least} did not come into service"
    return reached


def answer(player, kind, **fields):
    """Return the videos that a new user is given after one event."""
    user_id = f"new-{uuid.uuid4()}"
    if kind == "watch":
        event_id = player.watch(user_id, "guitar-1", duration_ms=60_000, **fields)
    else:
        event_id = player.search(user_id, **fields)
    return [item["video_id"] for item in player.answer_to(event_id)["items"][:TOP]]


def num_of(category, video_ids):
    return sum(video_id.startswith(category) for video_id in video_ids)


@pytest.mark.usefixtures("generation")
def test_a_skip_brings_fewer_of_its_kind_than_a_watch(player):
    """A second of sixty is no reason for nine videos of the same."""
    watched = answer(player, "watch", watch_ms=60_000)
    skipped = answer(player, "watch", watch_ms=1_000)

    assert num_of("guitar", watched) >= 6
    assert num_of("guitar", skipped) <= TOP // 3


@pytest.mark.usefixtures("generation")
@pytest.mark.parametrize(
    ("query", "kind", "least"),
    [("guitar chords", "guitar", 8), ("guitars", "guitar", 8), ("机器学习", "ml", 3)],
)
def test_a_search_is_answered_whatever_is_popular(player, query, kind, least):
    """By the words that were typed, a form of them, or a part of a title without spaces."""
    found = answer(player, "search", query=query)

    assert num_of(kind, found) >= least
    assert num_of(kind, found[:least]) == least
