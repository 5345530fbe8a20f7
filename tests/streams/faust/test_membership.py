"""What the group holds against a worker, and what the worker makes of it."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
)

from contract.errors import ContractError
from contract.process.settings import KafkaSettings
from streams.faust.membership import GroupMembership, listen


class Judged:
    """A membership by a clock that is set by hand, and what became of it."""

    def __init__(self, instance_id=None):
        self.now_s = 0.0
        self.num_refusals, self.failures = 0, []
        self.membership = GroupMembership(
            KafkaSettings(session_timeout_ms=3_000),
            instance_id,
            monotonic=lambda: self.now_s,
            on_refusal=self.refuse,
            on_failure=self.failures.append,
        )

    def refuse(self):
        self.num_refusals += 1

    def lose(self, *times_s):
        for self.now_s in times_s:
            self.membership.lost()


def test_a_session_that_the_broker_does_not_accept_ends_the_worker():
    judged = Judged()
    judged.membership.refused(InvalidSessionTimeoutError())

    [failure] = judged.failures
    assert isinstance(failure, ContractError)
    assert "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS=3000" in str(failure)
    assert "group.min.session.timeout.ms" in str(failure)


@pytest.mark.parametrize("error", [GroupAuthorizationFailedError, InconsistentGroupProtocolError])
def test_other_refusals_are_looked_into(error):
    """The cluster can say why: a right, or a stranger."""
    judged = Judged()
    judged.membership.refused(error())

    assert (judged.num_refusals, judged.failures) == (1, [])


def test_a_worker_that_loses_its_static_membership_twice_within_a_minute_ends():
    """Another worker has the same id; one of the two has to give in."""
    judged = Judged("worker-1")
    judged.lose(100.0, 103.0)

    [failure] = judged.failures
    assert isinstance(failure, ContractError)
    assert str(failure).startswith("NEXTWATCH_STREAMS_INSTANCE_ID=worker-1: another worker")


@pytest.mark.parametrize(
    ("instance_id", "times_s"), [("worker-1", [100.0]), ("worker-1", [0.0, 61.0]), (None, [0, 1])]
)
def test_a_worker_that_was_paused_joins_again(instance_id, times_s):
    judged = Judged(instance_id)
    judged.lose(*times_s)

    assert judged.failures == []


class Coordinator:
    """What `listen` needs of aiokafka's coordinator."""

    def __init__(self):
        self.member_id = "m-1"
        self.num_rejoins = 0
        self._closing = asyncio.get_running_loop().create_future()

    def request_rejoin(self):
        self.num_rejoins += 1

    async def _do_heartbeat(self):
        self.member_id = ""
        return False


def test_the_coordinator_reports_an_error_at_once_and_tries_again():
    """Nobody polls while a worker joins, so the error would be kept for ever."""
    told = []

    async def story():
        coordinator = Coordinator()
        coordinator._closing.set_result(None)
        listen(
            coordinator,
            SimpleNamespace(refused=told.append, lost=lambda: told.append("lost")),
        )
        error = GroupAuthorizationFailedError("group")
        await coordinator._push_error_to_user(error)
        is_accepted = await coordinator._do_heartbeat()
        assert told == [error, "lost"]
        assert (is_accepted, coordinator.num_rejoins) == (False, 1)

    asyncio.run(story())
