"""Measure what a part of a model is worth: ``python -m benchmarks.ablations NAME --data ...``.

Trains every arm of one ablation with the same seeds on the same log, and prints a Markdown table,
then one JSON object. The difference is to the first arm, case by case, with the bounds between
which 95 % of resamples by user have it. On ``kuairand:DIR`` arms learn in streaming on the first
``--exposures`` of 25-30 April; on ``ml1m:DIR`` each has ``--minutes`` of CPU for sequences.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.ablations import page, sequences, streaming
from benchmarks.ablations.arms import ABLATIONS, KUAIRAND, ML1M, Arm
from benchmarks.ablations.streaming import AblationOutcome
from nextwatch.evaluate import ranks
from nextwatch.evaluate.prequential import Tell
from nextwatch.evaluate.progress import progress

Run = Callable[[Arm, int], AblationOutcome]

_SHOWN = {
    KUAIRAND: ("recall_at_100", "recall_at_20", "recall_at_200", "ndcg_at_10"),
    ML1M: ("recall_at_10", "recall_at_50", "recall_at_100", "ndcg_at_10"),
}
"""Which measures the table has; the difference to the first arm is told of the first."""


def told(outcomes: Sequence[AblationOutcome], first: Sequence[AblationOutcome]) -> dict[str, Any]:
    """Return the measures of one arm over all seeds, and their differences to the *first* arm."""
    gain_QM = np.concatenate([one.gain_QM for one in outcomes])
    better_QM = gain_QM - np.concatenate([one.gain_QM for one in first])
    user_ids = [user_id for one in outcomes for user_id in one.user_ids]
    of_seed = [ranks.means(one.gain_QM) for one in outcomes]
    return {
        **ranks.means(gain_QM),
        "n": len(outcomes[0].gain_QM),
        "by_seed": of_seed,
        "difference": ranks.means(better_QM),
        "difference_intervals": ranks.intervals(better_QM, user_ids),
        "train_seconds": round(sum(one.cpu_s for one in outcomes) / len(outcomes), 1),
        "effort": outcomes[0].effort,
    }


def table(report: dict[str, Any], shown: Sequence[str]) -> str:
    """Return *report* as a Markdown table."""
    names = [*shown, f"difference in {shown[0]}", "CPU s", "effort"]
    lines = [report["question"], "", f"| arm | {' | '.join(names)} |", "| --- " * (1 + len(names))]
    lines[-1] += "|"
    for name, arm in report["arms"].items():
        low, high = arm["difference_intervals"][shown[0]]
        figures = [f"{arm[measure]:.4f}" for measure in shown]
        figures.append(f"{arm['difference'][shown[0]]:+.4f} ({low:+.4f} to {high:+.4f})")
        figures += [f"{arm['train_seconds']:.0f}", arm["effort"]]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def ablate(name: str, data: str, run: Run, *, num_seeds: int) -> dict[str, Any]:
    """Return the report of one ablation."""
    ablation = ABLATIONS[name]
    outcomes = {arm.name: [run(arm, seed) for seed in range(num_seeds)] for arm in ablation.arms}
    first = outcomes[ablation.arms[0].name]
    return {
        "ablation": name,
        "question": ablation.question,
        "data": data,
        "seeds": num_seeds,
        "arms": {arm: told(found, first) for arm, found in outcomes.items()},
    }


def _runner(data: str, directory: Path, given: argparse.Namespace, tell: Tell) -> Run:
    if data == KUAIRAND:
        log = streaming.read(directory, most=given.exposures)
        epochs = given.history_epochs
        return lambda arm, seed: streaming.run(log, arm, seed=seed, num_epochs=epochs, tell=tell)
    split = sequences.read(directory)
    minutes = given.minutes
    return lambda arm, seed: sequences.run(split, arm, seed=seed, minutes=minutes, tell=tell)


def _command(given: argparse.Namespace, data: str) -> str:
    """Return the command that measures this again."""
    words = ["python -m benchmarks.ablations", given.name, f"--data {data}:DIR"]
    words += [f"--seeds {given.seeds}"] if given.seeds > 1 else []
    if data == ML1M:
        return " ".join([*words, f"--minutes {given.minutes:g}"])
    words += [] if given.exposures is None else [f"--exposures {given.exposures}"]
    words += [f"--history-epochs {given.history_epochs}"] if given.history_epochs else []
    return " ".join(words)


def main() -> None:
    """Run the ablation that is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations", description=__doc__)
    parser.add_argument("name", choices=sorted(ABLATIONS))
    parser.add_argument("--data", required=True, help="kuairand:DIR or ml1m:DIR")
    parser.add_argument("--seeds", type=int, default=1, help="0, 1, ... for every arm")
    parser.add_argument("--exposures", type=int, help="the first of KuaiRand; all of 25-30 April")
    parser.add_argument(
        "--history-epochs", type=int, default=0, help="over KuaiRand's histories, before the log"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of CPU for an arm, ml1m")
    parser.add_argument("--report", action="store_true", help=f"into {page.PAGE} as well")
    given = parser.parse_args()
    data, _, directory = given.data.partition(":")
    known = ABLATIONS[given.name].data
    if data not in known:
        parser.error(f"{given.name} is asked on {' or '.join(known)}, not on {data!r}")
    torch.set_num_threads(1)
    with progress(given.name, Console(stderr=True)) as tell:
        run = _runner(data, Path(directory), given, tell)
        report = ablate(given.name, data, run, num_seeds=given.seeds)
    text = table(report, _SHOWN[data])
    print(text)
    if given.report:
        page.written(page.PAGE, f"{given.name}, {data}", f"{text}\n\n`{_command(given, data)}`")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
