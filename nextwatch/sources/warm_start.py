"""Let the trainer learn histories from files before its first start.

It is the trainer's own code with the trainer's own settings, from the environment. What it leaves
is a checkpoint, which ``python -m trainer`` goes on from.
"""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models.history.history import WindowPolicy
from nextwatch.datasets import kuairand, kuairand_past
from nextwatch.operate.session import to_json
from nextwatch.sources import backfill
from nextwatch.sources.run import stop_on_signals
from nextwatch.sources.timeline import lay_out
from trainer.__main__ import learn_windows


def windows(directory: Path, policy: WindowPolicy) -> Mapping[str, bytes]:
    """Return the encoded history window of each user from before the log in *directory*.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    started = datetime.fromisoformat(kuairand_past.LOG_STARTS).replace(tzinfo=UTC)
    log = kuairand.read(directory)
    from_ms = int(started.timestamp() * 1_000)
    before_ms = lay_out(log, from_ms=from_ms, hold_back=0.0).started_ms
    found = backfill.records(directory, log, policy, before_ms=before_ms, hold_back=0.0)
    return {key.decode(): value for key, value in found}


def run(directory: Path, *, passes: int, users: int | None, as_json: bool) -> bool:
    """Learn the histories in *directory* in *passes* passes, and show the progress.

    Return whether that is saved.

    Raises:
        DatasetError, BrokerUnavailable, ContractError: each with its remedy.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        *(BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()),
    )
    with stop_on_signals() as stop, Progress(*columns, console=console) as bar:
        task = bar.add_task("histories", total=passes)
        num_users, is_saved = learn_windows(
            os.environ,
            lambda policy: windows(directory, policy),
            num_users=users,
            num_passes=passes,
            should_stop=stop.is_set,
            on_pass=lambda: bar.advance(task),
        )
    told = {"users": num_users, "passes": passes, "saved": is_saved}
    if as_json:
        sys.stdout.write(to_json(told) + "\n")
    elif is_saved:
        console.print(f"{num_users:,} users learned: python -m trainer goes on from there")
    else:
        console.print("nothing was saved: python -m trainer would start with nothing learned")
    return is_saved
