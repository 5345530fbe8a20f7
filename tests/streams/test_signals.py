"""A signal that comes before Faust listens for it."""

import os
import signal

import pytest

from contract.process.exit_codes import ExitCode
from streams import __main__ as process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_before_it_runs_ends_in_order(number, monkeypatch):
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(process, "load", lambda *_: os.kill(os.getpid(), number))
    try:
        with pytest.raises(SystemExit) as ended:
            process.run({})
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

    assert ended.value.code == ExitCode.STOPPED
