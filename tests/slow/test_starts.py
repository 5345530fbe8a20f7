"""Workers that start with nothing to do, or on what a crash has left."""

import pytest

from benchmarks.stack.prefixed_stack import PrefixedStack
from benchmarks.stack.waiting import eventually
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def services():
    """A broker; each test starts its own workers."""
    with running_stack("embedded", processes=()) as stack:
        yield stack


@pytest.fixture
def place(services):
    return PrefixedStack(services)


def test_a_worker_without_partitions_is_ready(services):
    """A rollout that waits for the ready file of a spare would wait for ever."""
    place = PrefixedStack(services, settings={"NEXTWATCH_KAFKA_USER_PARTITIONS": "1"})
    workers = [place.worker(), place.worker()]
    for worker in workers:
        worker.wait_ready()
    assert eventually(
        lambda: [] in [worker.logged("partitions_assigned")[-1]["opened"] for worker in workers]
    )

    for worker in workers:
        worker.child.terminate()
        assert worker.child.wait_ended(15)
        assert not worker.ready_file.exists()


def test_a_damaged_note_on_the_last_member_is_no_hindrance(place):
    """It only saves the wait for a session to end."""
    worker = place.worker()
    worker.wait_ready()
    worker.child.kill()
    (worker.state_dir / "member").write_bytes(b"\xff\xfe\0garbage")
    worker.ready_file.unlink()

    worker.child.start()
    worker.wait_ready()
