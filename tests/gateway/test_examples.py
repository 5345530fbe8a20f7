"""The examples of docs/gateway.md do what the page says, as they stand there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

PAGE = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
ADDRESS = "http://127.0.0.1:8080"
PROGRAMS = {"sh": ("sh", "-ec"), "python": (sys.executable, "-c"), "javascript": ("node", "-e")}


@pytest.mark.parametrize("language", PROGRAMS)
def test_the_example_posts_a_watch_and_prints_what_followed(gateway, language):
    program, option = PROGRAMS[language]
    needed = "curl" if language == "sh" else program
    if not shutil.which(needed):
        pytest.skip(f"{needed} is not installed")
    [code] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert ADDRESS in code
    ran = subprocess.run(
        (program, option, code.replace(ADDRESS, gateway.url)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    if language == "sh":
        assert '"caused_by":["curl-' in ran.stdout
    else:
        assert re.search(r"\[.*\]", ran.stdout), ran.stdout
