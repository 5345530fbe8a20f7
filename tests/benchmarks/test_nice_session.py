"""A session yields during a benchmark, and is as it was afterwards."""

import pytest

from benchmarks.stack import nice_session as module
from benchmarks.stack.nice_session import nice_session


class Autogroup:
    """The file of the kernel: *num_busy* writes are turned away after the first one."""

    def __init__(self, niceness, *, num_busy=0):
        self.niceness = niceness
        self.written = []
        self._num_busy = num_busy

    def exists(self):
        return True

    def read_text(self):
        return f"/autogroup-5 nice {self.niceness}\n"

    def write_text(self, text):
        if self.written and self._num_busy:
            self._num_busy -= 1
            raise BlockingIOError
        self.niceness = int(text)
        self.written.append(self.niceness)


@pytest.fixture
def autogroup_of(monkeypatch):
    def made(niceness, **more):
        group = Autogroup(niceness, **more)
        monkeypatch.setattr(module, "_AUTOGROUP", group)
        monkeypatch.setattr(module, "_TRY_EVERY_S", 0.0)
        return group

    return made


def test_a_session_is_set_back_although_others_set_theirs(autogroup_of):
    """The kernel takes ten a second of the whole machine; the shell would stay nice for good."""
    group = autogroup_of(0, num_busy=3)

    with nice_session(10):
        pass

    assert group.written == [10, 0]


@pytest.mark.parametrize("niceness", [10, 19])
def test_a_session_that_is_as_nice_already_stays_as_it_is(autogroup_of, niceness):
    """It would take more of the processor during the benchmark than before."""
    group = autogroup_of(niceness)

    with nice_session(10):
        assert group.niceness == niceness

    assert group.written == []
