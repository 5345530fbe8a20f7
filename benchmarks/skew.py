"""Look for skew between serving and training: ``python -m benchmarks.skew --json``.

The default demo runs for some minutes on a stack of its own, then the features that it logged are
computed again from its topics (`nextwatch.skew.compare`). The last line is one JSON object; the
exit code is 1 if a value differs, or if fewer were compared than asked for.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from time import monotonic

from benchmarks.json_report import exit_with, log_errors_only
from benchmarks.outages import reopened_broker
from contract.process.settings import KafkaSettings
from models.bundle import bundle as bundles
from models.history.history import WindowPolicy
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.process import Child, Plan
from nextwatch.operate.scan import Scan
from nextwatch.skew.compare import READ_TOPICS, Skew, Topics, compare

_END_WITHIN_S = 120.0


def main() -> None:
    """Print the figures as one JSON object."""
    given = _arguments()
    log_errors_only()
    with tempfile.TemporaryDirectory(prefix="nextwatch-skew-") as name:
        state_dir = given.state_dir or Path(name) / "state"
        if given.state_dir is None:
            _run_demo(Path(name) / "demo.log", state_dir, given.seconds)
        with reopened_broker(state_dir) as kafka:
            skew = _compared(kafka, state_dir, given.values)
    figures = {
        "values": skew.values,
        "recommendations": skew.recommendations,
        "differences": skew.num_differences,
        "by_feature": {name: count for name, count in skew.differences.items() if count},
        "not_compared": dict(skew.not_compared),
        "examples": skew.examples,
    }
    exit_with(figures, is_right=not skew.num_differences and skew.values >= given.values)


def _run_demo(log_path: Path, state_dir: Path, seconds: float) -> None:
    arguments = ("--headless", "--json", "--seconds", f"{seconds:g}", "--state-dir", str(state_dir))
    argv = (sys.executable, "-m", "nextwatch", "demo", *arguments)
    demo = Child(Plan("demo", argv, inherited(os.environ), log_path))
    demo.start()
    try:
        if not demo.wait_ended(seconds + _END_WITHIN_S):
            raise SystemExit(f"the demo did not end:\n{demo.log_tail()}")
    finally:
        demo.kill()


def _compared(kafka: KafkaSettings, state_dir: Path, values: int) -> Skew:
    topics = Topics()
    for record in Scan(kafka, monotonic=monotonic).read([topic.name for topic in READ_TOPICS]):
        topics.take(record)
    root = f"file://{state_dir.resolve()}/bundles"
    return compare(
        topics,
        lambda bundle_id: bundles.load(f"{root}/{bundle_id}"),
        WindowPolicy(),
        most_values=values,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: always JSON")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the demo runs")
    parser.add_argument("--values", type=int, default=1_000_000, help="how many to compare")
    parser.add_argument(
        "--state-dir", type=Path, help="compare what an ended demo left there, and run none"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
