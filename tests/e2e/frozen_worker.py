"""Run a streams worker that blocks at its first event, in its event loop or producer."""

import sys
import time

from streams import __main__ as worker
from streams.pipeline.pipeline import MicroBatcher


class FrozenProducer:
    """A producer whose `produce` never returns."""

    def __init__(self, config):
        pass

    def produce(self, *args, **kwargs):
        time.sleep(3_600)


def frozen_put(self, records):
    """Block the event loop for good."""
    time.sleep(3_600)


if __name__ == "__main__":
    if sys.argv.pop() == "loop":
        MicroBatcher.put = frozen_put
    else:
        worker.Producer = FrozenProducer
    worker.main()
