"""Ctrl-C: the first one ends a run in order, the second one at once."""

import os
import signal

import pytest

from nextwatch.demo.interruption import interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks(number):
    """The run looks at it itself, and ends in order."""
    with interruptible() as interruption:
        interruption.is_orderly = True
        os.kill(os.getpid(), number)

        assert interruption.asked.is_set()


def test_the_second_signal_raises():
    """Who asks twice does not want to wait."""
    with interruptible() as interruption:
        interruption.is_orderly = True
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_nothing_disturbs_the_killing():
    """After the second signal all others are ignored, until the end."""
    with interruptible() as interruption:
        interruption.is_orderly = True
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    assert interruption.asked.is_set()


def test_during_the_boot_the_first_signal_raises():
    """There is nothing to tell yet, and the boot may be waiting for something slow."""
    with interruptible() as interruption, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)

    assert interruption.asked.is_set()


def test_handlers_are_put_back():
    """What was there before is there again."""
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        pass

    assert signal.getsignal(signal.SIGINT) is before
