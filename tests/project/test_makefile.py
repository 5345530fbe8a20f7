"""`make demo` installs what the demo needs, and leaves nothing behind where it cannot."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path):
    """The files that an installation looks at."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def old_python(tmp_path_factory):
    """An interpreter of 3.10: it says so, and runs nothing of ours."""
    program = tmp_path_factory.mktemp("old") / "python3.10"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.10.13"\nexit 1\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def good_python(tmp_path_factory):
    """This interpreter, quicker with ``-m venv``: the environment holds a link to it."""
    program = tmp_path_factory.mktemp("good") / "python3"
    program.write_text(
        '#!/bin/sh\n[ "$2" = venv ] || exec ' + shlex.quote(sys.executable) + ' "$@"\n'
        f'rm -rf .venv && mkdir -p .venv/bin && ln -s "{program}" .venv/bin/python\n'
    )
    program.chmod(0o755)
    return program


def install(checkout, python, *settings):
    """Run what `make demo` runs first; instead of pip its commands are printed."""
    argv = ("make", ".venv/.demo", f"PYTHON={python}", "PIP=@echo pip", *settings)
    env = {name: value for name, value in os.environ.items() if name not in {"TORCH", "MAKEFLAGS"}}
    return subprocess.run(argv, cwd=checkout, env=env, capture_output=True, text=True, check=False)


def test_a_wrong_python_is_told_and_leaves_nothing_behind(checkout, old_python):
    refused = install(checkout, old_python)

    assert refused.returncode != 0
    assert f"nextwatch needs Python 3.11, 3.12 or 3.13, and {old_python} is Python 3.10.13" in (
        refused.stderr
    )
    assert not (checkout / ".venv").exists()


def test_the_advice_works_even_where_a_wrong_python_left_its_environment(
    checkout, old_python, good_python
):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(old_python, checkout / ".venv" / "bin" / "python")

    assert install(checkout, old_python).returncode != 0
    assert install(checkout, good_python).returncode == 0
    assert (checkout / ".venv/bin/python").resolve() == good_python


def test_the_torch_that_is_named_comes_first_and_the_rest_leaves_it_alone(checkout, good_python):
    """Once it is there, nothing is installed again."""
    done = install(checkout, good_python, "TORCH=torch --index-url URL")
    commands = [line for line in done.stdout.splitlines() if line.startswith("pip")]

    assert commands == [
        "pip install torch --index-url URL",
        "pip install -c .venv/constraints.txt -e .[train,embedded]",
    ]
    assert "pip" not in install(checkout, good_python).stdout


def test_without_torch_nothing_of_the_trainer_is_installed_now_or_later(checkout, good_python):
    install(checkout, good_python, "TORCH=none")
    os.utime(checkout / ".venv" / ".demo", (0, 0))  # older than pyproject.toml

    assert "-e .[embedded]" in install(checkout, good_python).stdout
