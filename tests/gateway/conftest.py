"""One broker, one streams worker and one gateway for all tests here that share them."""

import pytest

from benchmarks.stack.player import player_of
from tests.support.stacks import running_stack
from tests.support.web import running_gateway


@pytest.fixture(scope="package")
def stack():
    with running_stack("embedded", processes=("streams",)) as stack:
        yield stack


@pytest.fixture(scope="package")
def gateway(stack):
    with running_gateway(stack) as gateway:
        yield gateway


@pytest.fixture
def player(stack):
    with player_of(stack) as player:
        yield player
