"""Make one recommendation for every known user, in bounded memory, and go on after a kill.

Users come in the order of their ids, `CHUNK_USERS` at a time. A chunk becomes a part, a file that
is whole or absent, and only then does the progress name its last user: a run that was killed makes
the part again that it was at, and none that is done. At the end the parts are put together, and
what the run has kept is removed.

Answers come from the code that answers events (`nextwatch.batch.served`); threads share the work,
each with a recommender of its own, since search and models compute without the interpreter's lock.
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import local

import msgspec
from threadpoolctl import threadpool_limits

from contract.errors import ContractError
from contract.process.atomic_write import draft_of, replace_file
from contract.process.collector import no_garbage_collector
from contract.wire.events import Recommendation
from models.history.history import EMPTY, Window
from nextwatch.batch.progress import Tell
from nextwatch.batch.rows import concatenate, written
from nextwatch.batch.users import Users
from streams.serving.recommend import Recommender
from streams.serving.requests import Request

CHUNK_USERS = 2_000
BATCH_USERS = 64
EVENT_ID = "batch"
"""Stands for the causing event: a list of one user and bundle has the same id in every run."""
PROGRESS = "progress.json"
WINDOWS = "windows"
_PART = "part-"

Chunk = Sequence[tuple[str, Window]]


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run has come; *last_user* is the last one in the last of its parts.

    *data* names the log, and is empty where the windows are those of the broker.
    """

    bundle_id: str
    number: int
    data: str = ""
    num_parts: int = 0
    num_users: int = 0
    last_user: str = ""


@dataclass(frozen=True, slots=True)
class RecommendRun:
    """One run, which writes to *path* and keeps what is done in *work_dir*."""

    users: Users
    make_recommender: Callable[[], Recommender]
    bundle_id: str
    number: int
    path: Path
    work_dir: Path
    num_threads: int = 1
    data: str = ""

    def run(self, tell: Tell, *, should_stop: Callable[[], bool] = lambda: False) -> RunProgress:
        """Make all lists that are not made yet, and the file; return what there is then.

        Once *should_stop*, what is done is kept for the next run.

        Raises:
            ContractError: the working directory is of a run with another bundle, number or log, or
                what is in it is damaged.
        """
        progress = self._begun()
        num_before = progress.num_users
        tell(num_before, self.users.num_users)
        for part in self._parts(progress, should_stop):
            name = self._part(progress.num_parts)
            with written(name, Recommendation) as rows:
                rows.write(part.answers)
            progress = msgspec.structs.replace(
                progress,
                num_parts=progress.num_parts + 1,
                num_users=progress.num_users + len(part.answers),
                last_user=part.last_user,
            )
            replace_file(self.work_dir / PROGRESS, msgspec.json.encode(progress))
            tell(progress.num_users, self.users.num_users)
        if not should_stop():
            self._put_together(progress)
        return progress

    def _begun(self) -> RunProgress:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.work_dir.mkdir(parents=True, exist_ok=True)
        begun = begun_in(self.work_dir)
        wanted = RunProgress(bundle_id=self.bundle_id, number=self.number, data=self.data)
        if begun is None:
            return wanted
        if _terms(begun) != _terms(wanted):
            raise ContractError(
                f"{self.work_dir} is of a run with {_terms(begun)}, now it would be with "
                f"{_terms(wanted)}: --restart begins anew"
            )
        return begun

    def _put_together(self, progress: RunProgress) -> None:
        parts = [self._part(number) for number in range(progress.num_parts)]
        try:
            concatenate(parts, self.path, Recommendation, num_rows=progress.num_users)
        except ContractError as error:
            raise ContractError(f"{error}: --restart begins anew") from error

    def _part(self, number: int) -> Path:
        return self.work_dir / f"{_PART}{number:06d}{self.path.suffix}"

    def _parts(self, progress: RunProgress, should_stop: Callable[[], bool]) -> Iterator["_Part"]:
        """Yield the parts in the order of users; a few chunks are under way at a time."""
        chunks = _chunks(self.users.scan(progress.last_user))
        under_way: deque[Future[_Part]] = deque()
        own = local()

        def made(chunk: Chunk) -> _Part:
            if not hasattr(own, "recommender"):
                own.recommender = self.make_recommender()
            return _Part(answers(own.recommender, chunk), chunk[-1][0])

        with (
            no_garbage_collector(),  # one third of the time that threads wait for each other
            # threads of the matrix library wait for each other in loops: 1.4 instead of 0.8 ms of
            # processor time a user on two cores
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(self.num_threads, thread_name_prefix="recommend") as pool,
        ):
            while not should_stop():
                for chunk in islice(chunks, self.num_threads + 1 - len(under_way)):
                    under_way.append(pool.submit(made, chunk))
                if not under_way:
                    return
                yield under_way.popleft().result()


@dataclass(frozen=True, slots=True)
class _Part:
    answers: Sequence[Recommendation]
    last_user: str


def answers(recommender: Recommender, users: Chunk) -> list[Recommendation]:
    """Return the recommendation of each user, in their order; erased users have none."""
    known = [(user_id, window) for user_id, window in users if _is_known(window)]
    made: list[Recommendation] = []
    for start in range(0, len(known), BATCH_USERS):
        some = known[start : start + BATCH_USERS]
        made += recommender.recommend(
            [Request(user_id, window, [EVENT_ID]) for user_id, window in some]
        )
    return made


def begun_in(work_dir: Path) -> RunProgress | None:
    """Return how far the run in *work_dir* has come; None where none has begun.

    Raises:
        ContractError: the file cannot be read.
    """
    file = work_dir / PROGRESS
    if not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=RunProgress)
    except msgspec.MsgspecError as error:
        raise ContractError(f"{file} cannot be read: {error}: --restart begins anew") from error


def discard(work_dir: Path) -> None:
    """Remove what a run has kept, and *work_dir* itself if nothing else is in it."""
    shutil.rmtree(work_dir / WINDOWS, ignore_errors=True)
    progress = work_dir / PROGRESS
    for file in (progress, draft_of(progress), *work_dir.glob(f"{_PART}*")):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or it has files of others
        work_dir.rmdir()


def _terms(of: RunProgress) -> str:
    """Return in words what must be the same when a run goes on."""
    return f"bundle {of.bundle_id}, lists of {of.number}, {of.data or 'windows of the broker'}"


def _is_known(window: Window) -> bool:
    return msgspec.structs.replace(window, erased_before_ms=0) != EMPTY


def _chunks(users: Iterator[tuple[str, Window]]) -> Iterator[Chunk]:
    while chunk := list(islice(users, CHUNK_USERS)):
        yield chunk
