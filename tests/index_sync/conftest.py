"""What the tests of the worker share."""

import pytest

from contract.wire.events import BundleState
from tests.builders import upload
from tests.index_sync.doubles import World


@pytest.fixture
def world():
    """A world in which generation 1, with one video ``old``, is in service."""
    world = World()
    world.uploads.append(upload("old"))
    world.announce(1, video_ids=["old"])
    world.settled(world.worker())
    world.announce(1, BundleState.IN_SERVICE)
    world.journal.done.clear()
    return world
