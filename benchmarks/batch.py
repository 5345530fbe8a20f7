"""Measure `nextwatch batch recommend`: ``python -m benchmarks.batch --json``.

Users of the serving benchmark, with 50 watches each, are written into a store as the command leaves
it after it has read the changelog; then one list is made for each of them among 100,000 videos, by
an exact search in memory, into Parquet or JSON lines. Progress goes to standard error; the last
line of standard output is one JSON object.

* ``users_per_s``   lists made in a second, of wall time, writing included
* ``cpu_ms_per_user``  processor time of the whole process
* ``peak_mb``       resident memory at most, of which ``loaded_mb`` was there before the first list
* ``resume_s``      how long a run that is done already takes: reading the progress, putting the
                    parts together
* ``load_1m``       the load average before: above 0.5, others took part
"""

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import open_catalogue
from contract.process.clock import system_clock
from models.history import codec
from nextwatch.batch.progress import Tell
from nextwatch.batch.recommend import RecommendRun
from nextwatch.batch.served import from_bundle
from nextwatch.batch.users import StoredUsers
from streams.settings import StreamsSettings

_WRITE_USERS = 2_000
_KB_PER_MB = 1_024


def main() -> None:
    """Measure what the command line says, and print it."""
    given = _arguments()
    load_1m = round(os.getloadavg()[0], 2)
    catalogue = open_catalogue(given.root, given.videos)
    audience = ServingAudience(catalogue, given.users, system_clock())
    served = from_bundle(catalogue.bundle_url, StreamsSettings())
    with tempfile.TemporaryDirectory() as directory:
        work_dir = Path(directory) / "work"
        users = StoredUsers(work_dir / "windows")
        _fill(users, audience)
        number = served.settings.num_recommended
        run = RecommendRun(
            users=users,
            make_recommender=lambda: served.recommender(num_recommended=number),
            bundle_id=catalogue.bundle_id,
            number=number,
            path=Path(directory) / f"lists.{given.format}",
            work_dir=work_dir,
            num_threads=given.threads,
        )
        loaded_mb = _peak_mb()
        started_s, cpu_s = perf_counter(), process_time()
        run.run(_tell(given.users))
        took_s, cpu_s = perf_counter() - started_s, process_time() - cpu_s
        again_s = perf_counter()
        run.run(_tell(given.users))
        resume_s = perf_counter() - again_s
        size_mb = run.path.stat().st_size / _KB_PER_MB**2
        users.close()
    report = {
        "videos": given.videos,
        "users": given.users,
        "threads": given.threads,
        "format": given.format,
        "users_per_s": round(given.users / took_s, 1),
        "cpu_ms_per_user": round(1_000 * cpu_s / given.users, 3),
        "peak_mb": round(_peak_mb()),
        "loaded_mb": round(loaded_mb),
        "file_mb": round(size_mb, 1),
        "resume_s": round(resume_s, 2),
        "cpus": os.cpu_count(),
        "load_1m": load_1m,
    }
    print(json.dumps(report))


def _fill(users: StoredUsers, audience: ServingAudience) -> None:
    for start in range(0, audience.num_users, _WRITE_USERS):
        numbers = range(start, min(start + _WRITE_USERS, audience.num_users))
        records = {user_id: codec.encode(window) for user_id, window in audience.windows(numbers)}
        users.put(records)
    users.mark_whole()


def _tell(num_users: int) -> Tell:
    def tell(done: int, total: int) -> None:
        del total
        print(f"{done:,} of {num_users:,} users", file=sys.stderr, flush=True)

    return tell


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KB_PER_MB


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path(".nextwatch/bench"), help="what is kept")
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=50_000, help="all with 50 watches")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--format", choices=("parquet", "jsonl"), default="parquet")
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
