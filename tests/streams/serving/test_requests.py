"""Asking for a list without an event: answered as events are, and no fact about taste."""

import json

import pytest

from contract.kafka.records import Position
from contract.wire.events import Context, encode
from streams.serving.requests import request_of
from tests.streams.serving.test_recommend import VIDEOS
from tests.streams.serving.test_recommend import World as Serving
from tests.streams.worlds import World
from tests.support.builders import asking, deletion, event_id, search, shown, watch


def listed(answer):
    """Return the recommended videos, best first."""
    return [item.video_id for item in answer.items]


def test_a_new_user_who_asks_gets_a_list():
    """Nothing is known of him but that he is there."""
    answer = Serving(*VIDEOS).answer(asking("first"))

    assert listed(answer) == ["nearer", "near", "far"]
    assert (answer.caused_by, answer.degraded) == ([event_id("u1/first")], [])


def test_a_returning_user_who_asks_is_answered_from_the_window():
    """What he watched is left out, as after any event."""
    answer = Serving(*VIDEOS).answer(asking(), happened=[watch("nearer")])

    assert listed(answer) == ["near", "far", "opposite"]


@pytest.mark.parametrize(("number", "length"), [(1, 1), (4, 4), (500, 4), (None, 3)])
def test_a_list_is_as_long_as_was_asked_for(number, length):
    """Shorter or longer than usual, and never longer than what is ranked."""
    assert len(listed(Serving(*VIDEOS).answer(asking(number=number)))) == length


def test_where_several_want_an_answer_the_longest_list_answers_them_all():
    """One list for all, and all are named; an event wants one of the usual length."""
    world = Serving(*VIDEOS)

    answer = world.answer(asking("a", number=1), asking("b", number=2))
    with_event = world.answer(asking(number=1), search())

    assert (len(answer.items), answer.caused_by) == (2, [event_id("u1/a"), event_id("u1/b")])
    assert len(with_event.items) == 3


def test_lists_of_other_lengths_in_one_batch_do_not_lengthen_each_other():
    """Users share a computation, not a length."""
    world = Serving(*VIDEOS)
    requests = [
        request_of(user_id, world.window(), [asking(user_id=user_id, number=number)])
        for user_id, number in (("u1", 1), ("u2", 4), ("u3", None))
    ]

    answers = world.recommender.recommend(requests)

    assert [len(answer.items) for answer in answers] == [1, 4, 3]


def test_the_context_of_a_request_counts_for_its_answer():
    """Of two requests the later one's; what they do not say is known from before."""
    known = watch("near", context=Context(country="DE", device="tv"))
    world = Serving()

    request = request_of(
        "u1",
        world.window(known),
        [
            asking("later", at_ms=2, context=Context(device="phone")),
            asking("sooner", at_ms=1, context=Context(device="car", language="de")),
        ],
    )

    context = request.window.context
    assert (context.country, context.device, context.language) == ("DE", "phone", "de")


def test_a_request_changes_no_window_and_publishes_none():
    """It is answered, its offset may be committed, and that is all."""
    world = World()
    world.pipeline.process([world.record(watch("A"))])
    before, written = world.store.get(["u1"]), len(world.outbox.to("nextwatch-streams-windows"))

    request = asking(at_ms=5, context=Context(country="JP"))
    world.pipeline.process([world.record(request)])

    assert world.store.get(["u1"]) == before
    assert len(world.outbox.to("nextwatch-streams-windows")) == written
    assert world.recommendations()[-1].caused_by == [request.request_id]
    assert world.partitions.committable()[Position("recommendation-requests", 0)] == 1


def test_a_request_of_an_unknown_user_creates_no_window():
    """No record, no window."""
    world = World()

    world.pipeline.process([world.record(asking())])

    assert list(world.store.scan()) == []
    assert len(world.recommendations()) == 1


def test_a_request_and_events_in_one_batch_are_answered_together():
    """By one list from the window after the events, and all of them are named."""
    world = World()
    events = [asking("a"), watch("A"), search(), asking("b")]

    world.pipeline.process([world.record(event) for event in events])

    [answer] = world.recommendations()
    assert answer.caused_by == [event.event_id for event in events]


def test_a_request_read_again_has_the_same_answer_and_once_committed_none():
    """At least once, with the same id; what the group has committed is answered."""
    world = World()
    world.pipeline.process([world.record(asking())])
    world.pipeline.process([world.record(asking())])
    world.start(committed=1)
    world.pipeline.process([world.record(asking(), offset=0)])

    first, second = world.recommendations()
    assert first.recommendation_id == second.recommendation_id


def test_a_request_from_before_an_erasure_is_not_answered_and_a_later_one_is():
    """As with events: nobody is told what follows from what must be forgotten."""
    world = World()
    later = asking("later", at_ms=6)

    world.pipeline.process(
        [world.record(event) for event in (asking(at_ms=4), deletion(at_ms=5), later)]
    )

    [answer] = world.recommendations()
    assert answer.caused_by == [later.request_id]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"number": 0}, "range:number"),
        ({"number": 501}, "range:number"),
        ({"number": "20"}, "type:number"),
        ({"request_id": "00000000-0000-0000-0000-000000000000"}, "bad_id:request_id"),
        ({"event_time_ms": 1_900_000_000_000}, "ts_future:event_time_ms"),
    ],
)
def test_a_request_that_breaks_a_bound_is_a_dead_letter(fields, reason):
    """Kept whole, with its reason; nobody is answered."""
    world = World()
    value = json.dumps(json.loads(encode(asking())) | fields).encode()

    world.pipeline.process([world.raw("recommendation-requests", b"u1", value)])

    [dead] = world.outbox.to("recommendation-requests.dlq")
    assert (dead.value, dict(dead.headers)["dlq.reason"]) == (value, reason.encode())
    assert world.recommendations() == []


def test_the_id_of_a_request_is_published_as_its_sender_wrote_it():
    """Who asks finds the answer by comparing texts."""
    world, request = World(), asking()
    value = encode(request).replace(
        request.request_id.encode(), request.request_id.upper().encode()
    )

    world.pipeline.process([world.raw("recommendation-requests", b"u1", value)])

    assert world.recommendations()[0].caused_by == [request.request_id.upper()]


def test_before_the_first_bundle_a_request_counts_no_watch():
    """What is trending is what was watched, however often somebody asks."""
    world = Serving()
    world.switch.current = None
    world.recommend("popular")
    world.recommend("popular")
    world.recommend("other")
    for _ in range(5):
        world.answer(asking(), happened=[watch("other")])

    assert listed(world.answer(asking(), happened=[shown("x")])) == ["popular", "other"]
