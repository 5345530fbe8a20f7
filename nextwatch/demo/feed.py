"""Where the demo's events come from: the command lines of `nextwatch.sources`."""

from dataclasses import dataclass
from pathlib import Path

from contract.errors import DatasetError
from nextwatch.embedded.plans import gated

LOGS = ("kuairand", "movielens")
HOLD_BACK = 0.02  # so that a closed log has cold videos, too

_LOADS = "nextwatch.sources.run"


@dataclass(frozen=True, slots=True)
class Feed:
    """The simulator, or a real log; *rate* is watches and searches per second."""

    source: tuple[str, ...]
    rate: float

    def catalogue(self, gate: Path) -> tuple[str, ...]:
        """Return the command that, once *gate* exists, sends the catalogue and ends."""
        return gated(gate, "nextwatch", *self.source, "--catalogue-only", "--json", loads=_LOADS)

    def events(self, gate: Path) -> tuple[str, ...]:
        """Return the command that, once *gate* exists, sends events until told to stop or out of them."""
        options = ("--no-catalogue", "--rate", f"{self.rate:g}", "--json")
        return gated(gate, "nextwatch", *self.source, *options, loads=_LOADS)


def parse(data: str | None, *, rate: float) -> Feed:
    """Return the feed for *data*, which is ``NAME:DIR``; without it, the simulator.

    Raises:
        DatasetError: the name is unknown, or the directory does not exist.
    """
    if data is None:
        return Feed(("simulate",), rate)
    name, _, directory = data.partition(":")
    if name not in LOGS or not directory:
        raise DatasetError(f"--data is one of {', '.join(f'{log}:DIR' for log in LOGS)}")
    path = Path(directory).expanduser()
    if not path.is_dir():
        raise DatasetError(f"{path} is no directory: name the one that holds the {name} files")
    source = ("replay", name, str(path.resolve()), "--hold-back", str(HOLD_BACK))
    return Feed(source, rate)
