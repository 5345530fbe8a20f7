"""One whole stack for each module and backend; the tests of a module share it."""

import pytest

from benchmarks.stack.player import player_of
from tests.support.stacks import BACKENDS, running_stack, stop_containers


@pytest.fixture(scope="session", autouse=True)
def _no_container_stays():
    yield
    stop_containers()


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(scope="module")
def stack(backend):
    with running_stack(backend, publish_every_s=5.0) as stack:
        yield stack


@pytest.fixture
def player(stack):
    with player_of(stack) as player:
        yield player
