"""Two processes that share every step learn what one learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = "tests.trainer.group.sharing"


def results_of(*command):
    """Return what each rank that *command* starts has printed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return sorted(map(json.loads, lines), key=lambda one: one["rank"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [2])
def test_ranks_learn_the_same_and_what_one_learns(size):
    """Bit for bit among them; against one alone the order of additions differs in float32."""
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node", str(size))
    [alone] = results_of(PROGRAM)
    ranks = results_of(*launch, "-m", PROGRAM)

    assert [one["rank"] for one in ranks] == list(range(size))
    assert len({one["digest"] for one in ranks}) == 1
    np.testing.assert_allclose(ranks[0]["losses"], alone["losses"], rtol=2e-3)
    assert alone["losses"][-1] < alone["losses"][1]
