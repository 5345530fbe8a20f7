"""What the tests of the worker share."""

import pytest

from contract.wire.events import BundleState
from tests.index_sync.doubles import World
from tests.support.builders import upload


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
