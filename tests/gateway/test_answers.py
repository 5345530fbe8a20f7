"""What is known of users is bounded, and a wait never misses what it waits for."""

import asyncio
import threading

from contract.wire.events import Recommendation, encode
from nextwatch.gateway.answers import NUM_CAUSES, Answers
from nextwatch.gateway.memory import ENTRY_BYTES, BoundedMemory
from tests.support.builders import T0, event_id


def put(answers, user_id, *causes, headers=()):
    """Put a recommendation of a user, as the reading thread does."""
    made = Recommendation(
        recommendation_id=event_id(f"{user_id}/{causes}"),
        user_id=user_id,
        generated_at_ms=T0,
        caused_by=list(causes),
        bundle_id=None,
        generation=0,
        arm="default",
        items=[],
    )
    answers.put(made, encode(made), headers)
    return made.recommendation_id


def run(test):
    """Run the coroutine function *test* with answers that serve its loop."""

    async def with_answers():
        answers = Answers(max_bytes=1 << 20)
        answers.open()
        await test(answers)

    asyncio.run(with_answers())


def test_those_used_least_lately_go_when_memory_is_full():
    memory = BoundedMemory(3 * (ENTRY_BYTES + 10), len)
    for key in ("a", "b", "c"):
        memory.put(key, b"x" * 10)
    memory.get("a")
    memory.put("d", b"x" * 10)

    assert [key for key in "abcd" if memory.get(key)] == ["a", "c", "d"]


def test_memory_stays_within_its_bound_whatever_is_put_replaced_and_removed():
    memory = BoundedMemory(10_000, len)
    for number in range(2_000):
        memory.put(f"k{number % 37}", b"x" * (number % 501))
        if number % 5 == 0:
            memory.remove(f"k{number % 11}")
        held = [memory.get(f"k{n}") for n in range(37)]
        assert memory.num_bytes == sum(ENTRY_BYTES + len(v) for v in held if v is not None)
        assert memory.num_bytes <= 10_000


def test_a_value_larger_than_the_memory_is_not_kept():
    memory = BoundedMemory(1_000, len)
    memory.put("a", b"x" * 2_000)

    assert (len(memory), memory.num_bytes) == (0, 0)


def test_a_wait_ends_with_the_answer_to_its_event_and_with_no_other():
    async def test(answers):
        with answers.expecting("u1", "e2") as wait:
            put(answers, "u1", "e1")
            put(answers, "u2", "e2")
            await asyncio.sleep(0)
            assert not wait.done()
            expected = put(answers, "u1", "e3", "e2")
            assert (await wait).recommendation_id == expected

    run(test)


def test_an_event_that_was_answered_before_is_not_waited_for():
    async def test(answers):
        put(answers, "u1", "e1")
        later = put(answers, "u1", "e2")
        with answers.expecting("u1", "e1") as wait:
            assert (await wait).recommendation_id == later

    run(test)


def test_a_uuid_is_the_same_event_in_either_case_and_without_dashes():
    async def test(answers):
        name = event_id("some")
        put(answers, "u1", name)
        with answers.expecting("u1", name.upper().replace("-", "")) as wait:
            assert wait.done()

    run(test)


def test_what_is_known_of_answered_events_is_bounded():
    async def test(answers):
        for number in range(10 * NUM_CAUSES):
            put(answers, "u1", f"e{number}")
        assert len(answers.latest("u1").causes) == NUM_CAUSES

    run(test)


def test_an_answer_that_comes_while_the_wait_begins_is_never_missed():
    """Another thread puts while the loop asks, in every order that turns up."""

    async def test(answers):
        names = [f"e{number}" for number in range(500)]
        thread = threading.Thread(target=lambda: [put(answers, "u1", name) for name in names])
        thread.start()
        for name in names[-NUM_CAUSES:]:
            with answers.expecting("u1", name) as wait:
                async with asyncio.timeout(10):
                    assert await wait is not None
        thread.join()

    run(test)


def test_headers_count_as_memory_too():
    """Whoever may write lists may write a megabyte of headers beside each."""

    async def test(answers):
        for number in range(20):
            put(answers, f"u{number}", "e", headers=(("x", b"x" * 100_000),))
        assert sum(answers.latest(f"u{number}") is not None for number in range(20)) == 10

    run(test)


def test_whoever_stops_waiting_leaves_nothing_behind():
    async def test(answers):
        for _ in range(3):
            with answers.expecting("u1", "e1"), answers.following("u1"):
                pass
        assert (answers.num_subscriptions, answers._waits, answers._subscriptions) == (0, {}, {})

    run(test)


def test_a_slow_reader_gets_the_newest_list_only():
    async def test(answers):
        with answers.following("u1") as subscription:
            for number in range(100):
                newest = put(answers, "u1", f"e{number}")
            await asyncio.sleep(0)
            got = await subscription.next(within_s=1)
            assert got.recommendation_id == newest
            assert await subscription.next(within_s=0.01) is None

    run(test)


def test_closing_ends_waits_and_streams_and_those_that_begin_later():
    async def test(answers):
        with answers.expecting("u1", "e1") as wait, answers.following("u1") as subscription:
            answers.close()
            assert await wait is None
            assert await subscription.next(within_s=10) is None
            assert subscription.is_over
        with answers.expecting("u1", "e1") as wait, answers.following("u1") as subscription:
            assert await wait is None
            assert subscription.is_over

    run(test)
