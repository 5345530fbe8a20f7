"""One format for all that a process logs, libraries included."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import logging, warnings
import structlog
from contract.process.log_setup import configure
configure("info")
structlog.get_logger().info("worker_started", videos=3)
logging.getLogger("aiokafka").warning("Unable to connect to %s", "kafka:9092")
warnings.warn("an API goes away", stacklevel=1)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("faust").exception("crashed")
logging.getLogger("aiokafka").info("not shown")
"""


def test_libraries_and_warnings_are_facts_like_our_own():
    """Whoever collects logs parses each line of them."""
    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ours, refused, warned, crashed = map(json.loads, ran.stderr.splitlines())

    assert (ours["event"], ours["videos"]) == ("worker_started", 3)
    assert refused["event"] == "library_logged"
    assert refused["text"] == "Unable to connect to kafka:9092"
    assert (refused["logger"], refused["level"]) == ("aiokafka", "warning")
    assert "an API goes away" in warned["text"]
    assert "ZeroDivisionError" in crashed["exception"]
    assert ran.stdout == ""


def test_a_line_is_written_with_its_end_in_one_piece():
    """Another thread may write between two pieces: its line would stand in the middle of this."""
    program = """
import json, sys
import structlog
from contract.process.log_setup import configure
class Stream:
    pieces = []
    def write(self, piece):
        self.pieces.append(piece)
    def flush(self):
        pass
sys.stderr = Stream()
configure("info")
structlog.get_logger().info("worker_started")
print(json.dumps(Stream.pieces))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert [piece.count("\n") for piece in json.loads(ran.stdout)] == [1]
