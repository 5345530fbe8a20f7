"""A process that is killed between any two effects goes on as if it had not been."""

import random
import signal
import subprocess
import sys

import msgspec

from tests.trainer.ranking.facts import Delivery, random_log
from trainer.ranking.examples import RankingExample
from trainer.state.checkpoint import Checkpoints

SEED = 3
NUM_KILLS = 4


def started(directory):
    """Start the process on *directory*."""
    command = [sys.executable, "-m", "tests.trainer.ranking.killed_process", directory, str(SEED)]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)


def test_kills_at_any_time_change_no_example(tmp_path):
    """The store of the checkpoint that is found is exactly that of its offsets."""
    rng = random.Random(SEED)
    for _ in range(NUM_KILLS):
        process = started(tmp_path)
        for _ in range(rng.randrange(1, 4)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = started(tmp_path)
    process.communicate()
    assert process.returncode == 0

    newest = Checkpoints(tmp_path).newest()
    found = msgspec.msgpack.decode(newest.files["examples"], type=list[RankingExample])
    assert [one for one in found if one.user_id != "clock"] == (
        Delivery().deliver(*random_log(SEED)).examples
    )
