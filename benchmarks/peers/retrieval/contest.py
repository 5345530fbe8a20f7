"""Train every peer on the same split in its own process, and measure its lists.

The time is processor time and the same for all, on one thread each, one after another. What a
peer gives back are lists of columns; where the last film of a user stands in them is for our own
code to say (`nextwatch.evaluate.ranks`), as it is for our own models.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.retrieval.environment import UnavailableError, python_of
from benchmarks.peers.retrieval.split import NOBODY, TOP, Ints, Split
from benchmarks.peers.retrieval.task import LISTS, TOLD
from nextwatch.embedded.process.plans import inherited
from nextwatch.evaluate import ranks
from nextwatch.evaluate.logs.ml1m import Halves

# Shape legend: U = users, T = first places, B = users of a batch, N = videos.

_USERS_AT_A_TIME = 512
_PATIENCE = 10
"""How many times its processor time a peer may take by the clock, on a machine that is busy."""
_OVERHEAD_S = 600.0


@dataclass(frozen=True, slots=True)
class RetrievalContestant:
    """One model of one library.

    Without an *environment* it runs in the project's own; *name* tells a module which model.
    """

    name: str
    title: str
    module: str
    environment: str = ""
    is_ours: bool = False


_HERE = "benchmarks.peers.retrieval"
CONTESTANTS = (
    RetrievalContestant(
        "youtube_dnn", "Nextwatch, YouTube DNN", f"{_HERE}.peer_nextwatch", is_ours=True
    ),
    RetrievalContestant("sasrec", "Nextwatch, SASRec", f"{_HERE}.peer_nextwatch", is_ours=True),
    RetrievalContestant(
        *("torch_rechub_youtube_dnn", "torch-rechub, YoutubeDNN", f"{_HERE}.peer_torch_rechub"),
        environment="torch-rechub",
    ),
    RetrievalContestant(
        *("rectools_sasrec", "RecTools, SASRec", f"{_HERE}.peer_rectools"), environment="rectools"
    ),
    RetrievalContestant("implicit_als", "implicit, ALS", f"{_HERE}.peer_implicit"),
    RetrievalContestant("implicit_knn", "implicit, item-item kNN", f"{_HERE}.peer_implicit"),
)


@dataclass(frozen=True, slots=True)
class RetrievalOutcome:
    """The result of one contestant: figures and notes, or the reason why there are none.

    *cpu_s* is the processor time of the whole process, from its start to its end.
    """

    contestant: RetrievalContestant
    figures: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    cpu_s: float = 0.0
    reason: str = ""
    is_failed: bool = False


def split_of(halves: Halves) -> Split:
    """Return what peers are given of *halves*: nothing of the tests."""
    held = {case.user_id: case.label for case in halves.validation}
    return Split.of(
        [history.columns for history in halves.histories],
        [held.get(history.user_id, NOBODY) for history in halves.histories],
        len(halves.uploads),
    )


@dataclass(frozen=True, slots=True)
class RetrievalContest:
    """What all contestants share: split, time, seed and directory."""

    halves: Halves
    data: Path
    directory: Path
    environments: Path
    minutes: float
    seed: int
    say: Callable[[str], None]

    def hold(self, contestants: tuple[RetrievalContestant, ...]) -> list[RetrievalOutcome]:
        """Return the outcomes of *contestants*, in their order."""
        split_of(self.halves).write(self.directory / "split.npz")
        return [self.run(contestant) for contestant in contestants]

    def run(self, contestant: RetrievalContestant) -> RetrievalOutcome:
        """Have one contestant learn and rank; one that is unavailable or fails has a reason."""
        try:
            python = sys.executable
            if contestant.environment:
                python = str(python_of(contestant.environment, self.environments))
        except UnavailableError as error:
            self.say(f"{contestant.name}: skipped, {error}")
            return RetrievalOutcome(contestant, reason=str(error))
        self.say(f"{contestant.name}: {self.minutes:g} minutes of processor time")
        folder = self.directory / contestant.name
        folder.mkdir()
        before_s = _children_s()
        reason = self._process(contestant, python, folder)
        cpu_s = _children_s() - before_s
        if reason:
            self.say(f"{contestant.name}: failed, {reason}")
            return RetrievalOutcome(contestant, cpu_s=cpu_s, reason=reason, is_failed=True)
        told = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        with np.load(folder / LISTS, allow_pickle=False) as arrays:
            figures = measured(arrays["lists_UT"], self.halves)
        self.say(f"{contestant.name}: NDCG@10 {figures['ndcg_at_10']:.4f}, {cpu_s:.0f} s of CPU")
        return RetrievalOutcome(contestant, figures, told, cpu_s)

    def _process(self, contestant: RetrievalContestant, python: str, folder: Path) -> str:
        """Run the program of *contestant* and return why it failed; nothing if it did not."""
        argv = [python, "-m", contestant.module, "--name", contestant.name]
        argv += ["--split", str(self.directory / "split.npz"), "--answer", str(folder)]
        argv += ["--data", str(self.data), "--minutes", str(self.minutes)]
        argv += ["--seed", str(self.seed)]
        log = folder / "log.txt"
        environ = inherited(os.environ) | {"TQDM_DISABLE": "1"}
        with log.open("wb") as output:
            try:
                done = subprocess.run(  # noqa: S603 - a module of this package
                    argv,
                    env=environ,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=self.minutes * 60 * _PATIENCE + _OVERHEAD_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                return f"not done after {error.timeout:.0f} s"
        if not done.returncode:
            return ""
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return said[-1] if said else f"exit code {done.returncode}"


def measured(lists_UT: Ints, halves: Halves) -> dict[str, Any]:
    """Return the figures of the lists of all users, by the ranks of their last films.

    Raises:
        ValueError: a list has a video twice, or one that is none, or there is not one per user.
    """
    if len(lists_UT) != len(halves.tests):
        raise ValueError(f"{len(halves.tests)} lists are wanted, got {len(lists_UT)}")
    found = []
    for start in range(0, len(lists_UT), _USERS_AT_A_TIME):
        cases = halves.tests[start : start + _USERS_AT_A_TIME]
        score_BN = scores(lists_UT[start : start + _USERS_AT_A_TIME], len(halves.uploads))
        labels, exposed = [case.label for case in cases], [case.exposed for case in cases]
        found.append(ranks.rank(score_BN, labels, exposed))
    tally = ranks.joined(found, len(halves.uploads))
    user_ids = [case.user_id for case in halves.tests]
    figures = ranks.summary([tally], user_ids, ["all"] * len(user_ids))
    beyond = (f"recall_at_{2 * TOP}", "mrr")  # lists end before
    return {
        name: value
        for name, value in figures.items()
        if name not in (*beyond, "per_day", "by_seed", "intervals")
    } | {"intervals": {name: figures["intervals"][name] for name in ("recall_at_10", "ndcg_at_10")}}


def scores(lists_BT: Ints, num_videos: int) -> np.ndarray:
    """Return a score for each video that falls from place to place; 0 for what is not listed.

    Raises:
        ValueError: a list has a video twice, or one that is none.
    """
    is_shown_BT = lists_BT != NOBODY
    if ((lists_BT < 0) & is_shown_BT).any() or (lists_BT >= num_videos).any():
        raise ValueError(f"a list names a column that is not among the {num_videos}")
    row_B, place_B = np.nonzero(is_shown_BT)
    score_BN = np.zeros((len(lists_BT), num_videos), np.float32)
    score_BN[row_B, lists_BT[is_shown_BT]] = lists_BT.shape[1] - place_B
    if np.count_nonzero(score_BN) != is_shown_BT.sum():
        raise ValueError("a list has a video twice")
    return score_BN


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
