"""The examples do what they say, in the words that README prints."""

import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest
from confluent_kafka.admin import AdminClient

from benchmarks.stack.waiting import eventually
from tests.support.groups import members_of
from tests.support.kafkajs import install_kafkajs
from tests.support.signals import children_that_hear_ctrl_c
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180), pytest.mark.long]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ADDRESS = "127.0.0.1:9092"
USER = "u2 "
UPLOADED = re.compile(r"v4[2-5]")


@pytest.fixture(scope="module")
def bootstrap_servers():
    """A stack with the topics' own names, as `nextwatch stack up` starts it."""
    with running_stack("embedded") as stack:
        yield stack.bootstrap_servers


@pytest.fixture(params=["python", "javascript"])
def language(request, bootstrap_servers, tmp_path):
    """The examples of one language, with the address of the stack instead of README's."""
    shutil.copytree(EXAMPLES / request.param, tmp_path, dirs_exist_ok=True)
    scripts = [file for file in tmp_path.iterdir() if file.suffix in {".py", ".js"}]
    for script in scripts:
        text = script.read_text()
        assert ADDRESS in text
        script.write_text(text.replace(ADDRESS, bootstrap_servers))
    if request.param == "python":
        return Language(tmp_path, sys.executable, ".py")
    install_kafkajs(tmp_path)
    return Language(tmp_path, "node", ".js")


@dataclass
class Language:
    """Where the scripts are, and what runs them."""

    directory: Path
    program: str
    suffix: str
    running: list = field(default_factory=list)

    def run(self, name):
        """Run the script *name* to its end, and return what it printed."""
        argv = (self.program, name + self.suffix)
        done = subprocess.run(
            argv, cwd=self.directory, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, name, lines):
        """Start the script *name*, which never ends; collect its lines."""
        argv = (self.program, name + self.suffix)
        with children_that_hear_ctrl_c():
            child = subprocess.Popen(argv, cwd=self.directory, stdout=subprocess.PIPE, text=True)
        Thread(target=lambda: [lines.append(line) for line in child.stdout], daemon=True).start()
        return child


def test_what_is_watched_is_answered_with_what_was_uploaded(language, bootstrap_servers):
    """The creator's, the player's and the reader's example, side by side.

    The reader leaves its group at Ctrl-C: else the next one prints nothing for 30 to 45 s.
    """
    lines = []
    language.run("upload")
    reader = language.start("recommendations", lines)

    def answered():
        language.run("watch")
        return [line for line in lines if line.startswith("u1 ") and UPLOADED.search(line)]

    try:
        assert eventually(answered, within_s=60, every_s=1.0), lines
        reader.send_signal(signal.SIGINT)
        assert reader.wait(20) == 0
        group = f"my-{'javascript-' if language.suffix == '.js' else ''}application"
        assert eventually(lambda: not members_of(bootstrap_servers, group), within_s=10)
    finally:
        reader.kill()
        reader.wait()
        reader.stdout.close()


def test_a_player_asks_and_is_given_a_list_each_time(language):
    """Without any event before the first one; each list says what it had to do without."""
    language.run("upload")
    lines = [line for line in language.run("ask").splitlines() if line.startswith(USER)]

    assert len(lines) == 3
    assert all(re.fullmatch(r"u2 \[.*\] degraded: \[.*\]", line) for line in lines), lines


def test_a_player_gives_up_when_no_answer_comes_and_leaves_no_group(language, bootstrap_servers):
    """A dead letter is never answered."""
    script = language.directory / f"ask{language.suffix}"
    text, num_changed = re.subn(r'("?number"?: )5', r"\g<1>-5", script.read_text())
    assert num_changed == 1
    script.write_text(text)
    argv = (language.program, script.name)
    done = subprocess.run(
        argv, cwd=language.directory, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert "no answer within 10 s" in done.stderr
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    groups = {group.group_id for group in admin.list_consumer_groups().result(10).valid}
    assert not {name for name in groups if name.startswith("player-")}


def test_readme_prints_the_examples_word_for_word():
    """Whoever copies them from there runs what the tests run."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )

    assert blocks == [
        (EXAMPLES / "python" / name).read_text() for name in ("watch.py", "recommendations.py")
    ]
