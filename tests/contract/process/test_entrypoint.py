"""The command lines of the three processes, and how they end, without a broker."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.errors import ContractError
from contract.process.entrypoint import log_failure, run_process
from contract.process.exit_codes import ExitCode
from contract.process.settings import KafkaSettings, ProcessSettings, QdrantSettings
from contract.version import VERSION
from nextwatch.embedded.process.plans import inherited

ROOT = Path(__file__).parents[3]
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
each_process = pytest.mark.parametrize(
    "process", ["streams", pytest.param("trainer", marks=needs_torch), "index_sync"]
)


def run(process, *arguments, cwd, **env):
    """Run ``python -m`` *process* to its end, in a directory of its own."""
    return run_python("-m", process, *arguments, cwd=cwd, **env)


def run_python(*arguments, cwd, **env):
    """Run Python to its end, in a directory of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited(os.environ), "PYTHONPATH": str(ROOT), **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PROGRAM = """
import asyncio, sys
from contract.errors import ContractError
from contract.process.entrypoint import run_process
from contract.process.settings import ProcessSettings

def end(_environ):
    {begin}
    {ending}

run_process("streams", end, description=None, settings=(ProcessSettings,))
"""


OPEN_MODELS = "from tests.support import native_code; native_code.open_models()"
COMMAND = f"{OPEN_MODELS}; from nextwatch.commands import cli; cli.main()"


@each_process
def test_help_names_every_setting_with_its_default(process, tmp_path):
    told = run(process, "--help", cwd=tmp_path)

    assert told.returncode == ExitCode.STOPPED
    assert "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092" in told.stdout
    assert "NEXTWATCH_PROCESS_LOG_LEVEL=info" in told.stdout


@each_process
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NEXTWATCH_PROCESS_LOG_LEVLE", "info", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_PROCESS_READY_FILE", "/dev/null/x/ready", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1", ExitCode.BROKER_AWAY),
    ],
)
def test_a_process_that_cannot_start_says_so_in_one_line(process, name, value, code, tmp_path):
    """With the variable to look at; all three have the same code for the same cause."""
    ended = run(process, cwd=tmp_path, **{name: value})

    [line] = ended.stderr.splitlines()
    assert ended.returncode == code
    assert line.startswith(f"{process}: ")
    assert name in line


def test_all_wrong_settings_are_named_at_once(monkeypatch, capfd):
    """Of whatever group; who mends one and starts again should not find the next."""
    monkeypatch.setattr(sys, "argv", ["streams"])
    monkeypatch.setenv("NEXTWATCH_KAFKA_TOPC_PREFIX", "a-")
    monkeypatch.setenv("NEXTWATCH_QDRANT_URL", "qdrant:6333")
    monkeypatch.setenv("NEXTWATCH_WORD", "1")
    groups = (KafkaSettings, QdrantSettings, ProcessSettings)
    with pytest.raises(SystemExit) as ended:
        run_process("streams", pytest.fail, description=None, settings=groups)

    [line] = capfd.readouterr().err.splitlines()
    assert ended.value.code == ExitCode.MISCONFIGURED
    assert line.startswith("streams: unknown settings: NEXTWATCH_KAFKA_TOPC_PREFIX (did you mean")
    assert "NEXTWATCH_QDRANT_URL: wanted http://HOST:PORT" in line
    assert "NEXTWATCH_WORD" in line


@pytest.mark.parametrize(
    ("error", "code", "has_trace"),
    [
        (ContractError("no right: grant it"), ExitCode.MISCONFIGURED, False),
        (RuntimeError("surprise"), ExitCode.FAILED, True),
    ],
)
def test_a_failure_in_another_thread_is_one_fact_with_its_code(error, code, has_trace):
    """A traceback only where nobody foresaw the error."""
    with capture_logs() as logs:
        given = log_failure(error)

    [fact] = logs
    assert (given, fact["event"], fact["code"]) == (code, "process_failed", code)
    assert fact["reason"] == f"{type(error).__name__}: {error}"
    assert (fact["exc_info"] is error) == has_trace


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('it has ended')", ExitCode.UNDONE),
        ("raise KeyboardInterrupt", 130),
        ("raise asyncio.CancelledError", ExitCode.FAILED),
        ("sys.stdout.close()", ExitCode.STOPPED),
        ("sys.stdout = None", ExitCode.STOPPED),
    ],
)
def test_a_process_ends_by_its_own_code_however_it_ends(ending, code, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(begin="pass", ending=ending))
    assert run_python(str(program), cwd=tmp_path).returncode == code


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("return", ExitCode.STOPPED),
        ("raise SystemExit(70)", ExitCode.FAILED),
        ("raise ContractError('no right: grant it')", ExitCode.MISCONFIGURED),
    ],
)
def test_a_thread_that_opens_a_model_does_not_change_how_a_process_ends(ending, code, tmp_path):
    """Python's end under a thread in native code is a SIGABRT, whatever the process had done."""
    pytest.importorskip("onnx", reason="the model is made by onnx, which comes with the trainer")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(begin=OPEN_MODELS, ending=ending))
    told = run_python(str(program), cwd=tmp_path)

    assert (told.returncode, "terminate called" in told.stderr) == (code, False)


def test_a_thread_that_opens_a_model_does_not_change_how_a_command_ends(tmp_path):
    """The same for the command line, whose demo imports the console in a thread."""
    pytest.importorskip("onnx", reason="the model is made by onnx, which comes with the trainer")
    program = tmp_path / "program.py"
    program.write_text(COMMAND)
    told = run_python(str(program), "--version", cwd=tmp_path)

    assert (told.returncode, "terminate called" in told.stderr) == (ExitCode.STOPPED, False)
    assert told.stdout.strip() == VERSION


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_program_whose_last_words_are_lost_is_not_done(tmp_path):
    """On a full disk they are lost at the end, when the buffer is written."""
    program = tmp_path / "program.py"
    program.write_text(
        "from contract.process.entrypoint import run_to_end\nrun_to_end('p', lambda: print('x'))\n"
    )
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, str(program)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
            stdout=full,
            check=False,
        )

    assert ended.returncode == ExitCode.UNDONE
