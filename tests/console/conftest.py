"""One broker, index, streams worker and console for all tests here that share them."""

import pytest

from benchmarks.stack.player import player_of
from tests.support.stacks import running_stack
from tests.support.web import running_console


@pytest.fixture(scope="package")
def stack():
    with running_stack("embedded", processes=("streams", "index_sync")) as stack:
        yield stack


@pytest.fixture(scope="package")
def console(stack):
    with running_console(stack) as console:
        yield console


@pytest.fixture
def player(stack):
    with player_of(stack) as player:
        yield player
