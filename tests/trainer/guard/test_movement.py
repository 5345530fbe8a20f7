"""How far vectors move from one publication to the next."""

import numpy as np

from models.serving.items import ItemStore
from tests.support.builders import item_vector
from trainer.guard.movement import NUM_IN_A_ROW, WARM_UP, MovementMonitor


class Published:
    """Publishes vectors that move by a share of their length."""

    def __init__(self):
        self.items = ItemStore(2, 2)
        self.monitor = MovementMonitor()
        self.angle = 0.0
        for vector in self.vectors():
            self.items.put(vector)

    def vectors(self):
        at = (float(np.cos(self.angle)), float(np.sin(self.angle)))
        return [item_vector(f"v{n}", at) for n in range(20)]

    def move(self, share, count=1):
        for number in range(count):
            self.angle += share
            self.monitor.note(self.vectors(), self.items, num_plays=number)
            for vector in self.vectors():
                self.items.put(vector)
        return self.monitor.reason


def test_vectors_that_move_ten_times_as_far_are_told():
    published = Published()
    assert published.move(0.01, count=WARM_UP + 5) is None
    assert published.move(0.1, count=NUM_IN_A_ROW - 1) is None
    assert "10.0 times" in published.move(0.1)


def test_one_burst_is_not():
    published = Published()
    published.move(0.01, count=WARM_UP + 5)
    published.move(0.1, count=NUM_IN_A_ROW - 1)
    assert published.move(0.01) is None
    assert published.monitor.num_far == 0
