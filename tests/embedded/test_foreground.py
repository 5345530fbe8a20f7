"""`stack up` and `stack env`: the file is of a living stack, and of one only."""

import subprocess
from threading import Event

import pytest

from contract.errors import ContractError, StackError
from nextwatch.embedded import foreground

ENV = {
    "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "NEXTWATCH_QDRANT_URL": "http://127.0.0.1:1",
    "NEXTWATCH_X": "a b'c $HOME",
}


class StandIn:
    """A stack without processes."""

    env = ENV
    directory = "somewhere"
    status_urls = {}  # noqa: RUF012 - of a stack without workers

    def __init__(self, fails_with=None):
        self.fails_with = fails_with
        self.calls = []

    def start(self):
        self.calls.append("start")

    def check(self):
        if self.fails_with:
            raise StackError(self.fails_with)

    def stop(self):
        self.calls.append("stop")


def up(env_file, stack, during=lambda: None):
    """Run *stack* in the foreground until *during* was called once."""
    is_over = Event()

    def tell(line):
        if line.startswith("files"):
            during()
            is_over.set()

    foreground.run(stack, env_file, is_over=is_over, tell=tell)


def test_settings_of_a_stack_survive_a_shell(tmp_path):
    """Whatever is in a value, the shell takes it as it is."""
    env_file = tmp_path / "deep" / "stack.env"
    scripts = []
    up(env_file, StandIn(), lambda: scripts.extend(foreground.exports(env_file)))
    script = "\n".join([*scripts, "printenv NEXTWATCH_X"])
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)

    assert shown.stdout == "a b'c $HOME\n"


def test_nothing_is_left_beside_a_stack_that_ended(tmp_path):
    """Neither the settings nor the lock; also where the stack failed."""
    up(tmp_path / "stack.env", StandIn())
    failing = StandIn(fails_with="the broker is gone")
    with pytest.raises(StackError, match="the broker is gone"):
        foreground.run(failing, tmp_path / "stack.env", is_over=Event(), tell=lambda _: None)

    assert list(tmp_path.iterdir()) == []
    assert failing.calls == ["start", "stop"]


def test_a_second_stack_does_not_take_the_file_of_the_first(tmp_path):
    """It does not start, says what to do, and the first is found as before."""
    env_file, second = tmp_path / "stack.env", StandIn()

    def start_another():
        with pytest.raises(StackError, match="--env-file FILE") as rejected:
            up(env_file, second)
        assert "\n" not in str(rejected.value)
        assert foreground.exports(env_file)

    up(env_file, StandIn(), start_another)
    assert second.calls == ["stop"]


def test_a_second_stack_with_a_file_of_its_own_starts(tmp_path):
    """Stacks side by side do not disturb each other."""
    second = StandIn()
    up(tmp_path / "one.env", StandIn(), lambda: up(tmp_path / "two.env", second))

    assert second.calls == ["start", "stop"]


@pytest.mark.parametrize("name", ["", "deep", "file/stack.env", "/proc/nextwatch/stack.env"])
def test_a_file_that_cannot_be_written_is_one_line_before_anything_starts(tmp_path, name):
    """A directory, a file below a file, a place where nothing can be made."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "file").touch()
    stack = StandIn()
    with pytest.raises(ContractError, match=r"cannot be written .*--env-file") as rejected:
        up(tmp_path / name, stack)

    assert "\n" not in str(rejected.value)
    assert stack.calls == ["stop"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "file"]


def test_a_missing_stack_is_reported_with_the_remedy(tmp_path):
    """Without a running stack there is nothing to export."""
    with pytest.raises(StackError, match="nextwatch stack up"):
        foreground.exports(tmp_path / "stack.env")


def test_addresses_of_a_killed_stack_are_not_exported(tmp_path):
    """The file that it left tells where nobody listens any more."""
    foreground.write(tmp_path / "stack.env", ENV)
    with pytest.raises(StackError, match="a stack that is gone: start one by nextwatch stack up"):
        foreground.exports(tmp_path / "stack.env")


def test_the_file_of_a_killed_stack_is_taken_over(tmp_path):
    """The next stack does not need anybody to clean up."""
    env_file = tmp_path / "stack.env"
    env_file.write_text("NEXTWATCH_X=old\n")
    (tmp_path / "stack.env.lock").touch()
    told = []
    up(env_file, StandIn(), lambda: told.extend(foreground.exports(env_file)))

    assert "export NEXTWATCH_QDRANT_URL=http://127.0.0.1:1" in told
