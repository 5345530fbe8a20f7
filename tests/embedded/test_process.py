"""Child processes: they start, say that they are ready, and never outlive us."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psutil
import pytest

from contract.errors import StackError
from nextwatch.embedded.process.ports import LOOPBACK
from nextwatch.embedded.process.process import Child, Plan

SLEEPS = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); {say}; time.sleep(600)"
PARENT = """
import sys
from pathlib import Path
from nextwatch.embedded.process.process import Child, Plan
import os, time
here = Path(sys.argv[1])
children = [
    Child(Plan(f"c{i}", (sys.executable, "-c", "import time; time.sleep(600)"), os.environ, here / f"{i}.log"))
    for i in range(3)
]
for child in children:
    child.start()
(here / "pids.new").write_text(" ".join(str(child.pid) for child in children))
(here / "pids.new").rename(here / "pids")
time.sleep(600)
"""


@pytest.fixture
def child_of(tmp_path):
    """Make a child that runs Python *code*, and leave none behind."""
    children = []

    def make(code: str, *, name: str = "child", **plan) -> Child:
        argv = (sys.executable, "-c", code)
        children.append(Child(Plan(name, argv, dict(os.environ), tmp_path / f"{name}.log", **plan)))
        return children[-1]

    yield make
    for child in children:
        child.kill()


def wait_until(holds, timeout_s=10.0):
    """Wait for a condition that another process brings about."""
    ticker = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({timeout_s})"])
    try:
        while not holds():
            assert ticker.poll() is None, "the condition never held"
    finally:
        ticker.kill()
        ticker.wait()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody reaped yet counts as ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_stranger_on_its_port_does_not_make_a_child_ready(child_of):
    """Two stacks that start at once must not share the broker of the faster one."""
    with socket.create_server((LOOPBACK, 0)) as stranger:
        port = stranger.getsockname()[1]
        child = child_of(SLEEPS, ports=(port,))
        child.start()

        assert not child.is_ready()
        with pytest.raises(StackError, match=f"port {port} was taken meanwhile"):
            child.wait_ready(60.0)
        assert f"port {port} was taken meanwhile" in child.exit_report()


def test_a_child_is_ready_once_it_listens_on_all_its_ports(child_of, tmp_path):
    """The port that is free again after its end is not called lost."""
    code = (
        "import socket, sys, time; from pathlib import Path; "
        "servers = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]; "
        "ports = ' '.join(str(server.getsockname()[1]) for server in servers); "
        f"new = Path({str(tmp_path / 'new')!r}); new.write_text(ports); "
        f"new.rename({str(tmp_path / 'ports')!r}); time.sleep(600)"
    )
    child = child_of(code)
    child.start()
    wait_until((tmp_path / "ports").exists)
    ports = tuple(map(int, (tmp_path / "ports").read_text().split()))
    child.plan = replace(child.plan, ports=ports)

    assert child.is_ready()
    child.kill()
    assert child.lost_port is None


def test_ready_file_of_an_earlier_run_does_not_count(child_of, tmp_path):
    """A child is ready when this run of it wrote the file, not when the last one did."""
    ready = tmp_path / "ready"
    ready.write_text("old")
    child = child_of(SLEEPS, ready_file=ready)
    child.start()

    assert not child.is_ready()
    ready.write_text("new")
    child.wait_ready(1.0)


def test_an_end_before_readiness_reports_the_end_of_the_log(child_of, tmp_path):
    """Whoever waits for a child that died learns at once why, from its own words."""
    child = child_of("raise SystemExit('the dog ate it')", ready_file=tmp_path / "never")
    child.start()

    with pytest.raises(StackError, match=r"(?s)exit code 1.*the dog ate it"):
        child.wait_ready(20.0)


def test_lateness_is_an_error(child_of, tmp_path):
    """A child that runs but never gets ready ends the waiting."""
    child = child_of(SLEEPS, ready_file=tmp_path / "never")
    child.start()

    with pytest.raises(StackError, match="not ready after"):
        child.wait_ready(0.05)


def test_stop_kills_a_process_that_ignores_the_request(child_of, tmp_path):
    """SIGTERM first; a child that ignores it is killed after the bound."""
    ready = tmp_path / "ready"
    child = child_of(STUBBORN.format(say=f"open({str(ready)!r}, 'w')"), ready_file=ready)
    child.start()
    child.wait_ready()
    child.stop(timeout_s=0.1)

    assert child.exit_code == -signal.SIGKILL


def test_stop_ends_the_children_of_the_child_too(child_of, tmp_path):
    """What a child started is in its group, and goes with it."""
    ready = tmp_path / "ready"
    code = (
        "import subprocess, sys, time, os\n"
        f"p = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}])\n"
        f"open({str(ready)!r} + '.new', 'w').write(str(p.pid))\n"
        f"os.rename({str(ready)!r} + '.new', {str(ready)!r})\n"
        "time.sleep(600)"
    )
    child = child_of(code, ready_file=ready)
    child.start()
    child.wait_ready()
    grandchild = int(ready.read_text())
    child.stop()

    wait_until(lambda: is_gone(grandchild))


def test_restart_appends_to_the_log(child_of):
    """The log of a child keeps what its earlier runs said."""
    child = child_of("print('hello')")
    for _ in range(2):
        child.start()
        assert child.wait_ended(10)

    assert child.log_path.read_text() == "hello\nhello\n"


def test_child_outlives_the_thread_that_started_it(child_of, tmp_path):
    """The kernel's death signal follows a thread; ours must not be the short-lived one."""
    ready = tmp_path / "ready"
    child = child_of(f"open({str(ready)!r}, 'w'); {SLEEPS}", ready_file=ready)

    def start() -> None:
        child.start()
        child.wait_ready()

    thread = Thread(target=start)
    thread.start()
    thread.join()

    assert not child.wait_ended(0.3)


def test_niceness_is_added(child_of, tmp_path):
    """The trainer's place is behind the others."""
    ready = tmp_path / "ready"
    child = child_of(f"open({str(ready)!r}, 'w'); {SLEEPS}", ready_file=ready, niceness=5)
    child.start()
    child.wait_ready()

    assert psutil.Process(child.pid).nice() == min(19, os.nice(0) + 5)


def test_urgent_child_yields_only_when_told(child_of, tmp_path):
    """While the stack waits for it, even the trainer goes first; later all its threads yield."""
    ready = tmp_path / "ready"
    code = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        f"open({str(ready)!r}, 'w')\n{SLEEPS}"
    )
    child = child_of(code, ready_file=ready, niceness=5)
    child.start(is_urgent=True)
    child.wait_ready()
    before = psutil.Process(child.pid).nice()
    child.be_nice()
    threads = [thread.id for thread in psutil.Process(child.pid).threads()]

    assert before == os.nice(0)
    assert len(threads) == 2
    for thread in threads:
        assert os.getpriority(os.PRIO_PROCESS, thread) == min(19, os.nice(0) + 5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_sigkilled_parent_leaves_nothing(tmp_path):
    """Even when the parent is killed without a word, its children are gone."""
    pids = tmp_path / "pids"
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=root)
    try:
        wait_until(pids.exists, timeout_s=30)
        children = [int(pid) for pid in pids.read_text().split()]
        assert not any(is_gone(pid) for pid in children)
    finally:
        parent.kill()
        parent.wait()

    wait_until(lambda: all(is_gone(pid) for pid in children))
