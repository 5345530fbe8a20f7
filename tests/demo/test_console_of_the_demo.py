"""The console in the demo does not stand in the way of its end."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import socket
from nextwatch.demo import console
from tests.support import native_code
console._MODULES = "tests.support.slow_import"
console.DemoConsole(socket.socket()).prepare()
native_code.is_busy.wait()
"""


def test_a_demo_that_ends_while_it_imports_the_console_ends_in_order():
    """Imports are native code in part, and Python's end under such a thread is a SIGABRT."""
    pytest.importorskip("onnx", reason="the model is made by onnx, which comes with the trainer")
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (told.returncode, told.stderr) == (0, "")
