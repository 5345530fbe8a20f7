"""Build the command lines of `nextwatch.sources` that send the demo's events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.errors import DatasetError
from nextwatch.embedded.process.plans import WORKERS, gated

LOGS = ("kuairand", "movielens")
HOLD_BACK = 0.02  # so that a closed log has cold videos, too

LABEL_WINDOW_MS = 10_000
BACKFILL_USERS = 2_000  # of 26,469 with histories: some 4 s of learning

_LOADS = "nextwatch.sources.run"


@dataclass(frozen=True, slots=True)
class DemoFeed:
    """The simulator, or a real log; *rate* is watches and searches per second."""

    source: tuple[str, ...]
    rate: float
    has_histories: bool = False

    @property
    def env_of(self) -> Mapping[str, Mapping[str, str]]:
        """Settings of single processes: with histories, the trainer learns from them first.

        Here whoever watches does so at the time of the impression, and a visitor has no ten minutes
        to wait for a ranker.
        """
        trainer = {"NEXTWATCH_TRAINER_LABEL_WINDOW_MS": str(LABEL_WINDOW_MS)}
        if self.has_histories:
            trainer["NEXTWATCH_TRAINER_BACKFILL_USERS"] = str(BACKFILL_USERS)
        return {"trainer": trainer}

    @property
    def notes(self) -> Mapping[str, str]:
        """The notes of the checklist, by step."""
        what = "learning from what users watched before"
        return {"trainer": what} if self.has_histories else {}

    @property
    def first_workers(self) -> Sequence[str]:
        """The workers that may start before the catalogue; the others read its histories."""
        return ("index_sync",) if self.has_histories else WORKERS

    def catalogue(self, gate: Path) -> tuple[str, ...]:
        """Return the command that, once *gate* exists, sends the catalogue and ends."""
        histories = ("--histories",) if self.has_histories else ()
        options = ("--catalogue-only", *histories, "--json")
        return gated(gate, "nextwatch", *self.source, *options, loads=_LOADS)

    def events(self, gate: Path) -> tuple[str, ...]:
        """Return the command that sends events from when *gate* exists until stopped."""
        options = ("--no-catalogue", "--rate", f"{self.rate:g}", "--json")
        return gated(gate, "nextwatch", *self.source, *options, loads=_LOADS)


def parse(data: str | None, *, rate: float, upload_rate: float | None = None) -> DemoFeed:
    """Return the feed for *data*, which is ``NAME:DIR``; without it, the simulator.

    *upload_rate* is new videos per second of the simulator, if not the usual one.

    Raises:
        DatasetError: the name is unknown, the files of the log are missing, or a log is to have
            another rate of uploads; with the remedy.
    """
    if data is None:
        uploads = () if upload_rate is None else ("--upload-rate", f"{upload_rate:g}")
        return DemoFeed(("simulate", *uploads), rate)
    if upload_rate is not None:
        raise DatasetError("--upload-rate is of the simulated audience: leave out --data")
    name, _, directory = data.partition(":")
    if name not in LOGS or not directory:
        raise DatasetError(f"--data is one of {', '.join(f'{log}:DIR' for log in LOGS)}")
    from nextwatch.datasets import kuairand, kuairand_past, movielens  # noqa: PLC0415

    path = Path(directory).expanduser()
    source = ("replay", name, str(path.resolve()), "--hold-back", str(HOLD_BACK))
    if name == "movielens":
        movielens.find_files(path)
        return DemoFeed(source, rate)
    kuairand.find_files(path)
    has_histories = kuairand_past.has_pasts(path)
    start = ("--from", kuairand_past.LOG_STARTS) if has_histories else ()
    return DemoFeed((*source, *start), rate, has_histories)
