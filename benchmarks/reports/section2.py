"""Reports on single bad inputs that ended a process."""

import asyncio
import json
from contextlib import closing
from hashlib import sha256
from socket import create_server, socket
from threading import Thread
from time import monotonic, sleep

import msgspec
import psutil

from benchmarks.reports import index_between
from benchmarks.reports.index_between import LOOPBACK, IndexBetween, Spoil
from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, Stage, code_within, reason_of, text_of
from benchmarks.stack.bundle_in_service import announce, put_in_service, write_bundle
from benchmarks.stack.prefixed_stack import StackProcess
from benchmarks.stack.strange_header_names import Record, send_all
from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.process.exit_codes import ExitCode
from contract.wire.events import BundleAnnouncement, BundleState

NUM_ANNOUNCEMENTS = 43_200
MOST_CPU = 0.05
PATIENCE_MS = 250
MOST_WAIT_S = 2.0
NUM_STRANGE = 200


def bad_announcements(stage: Stage) -> Seen:
    """Bundles at nosuch://, s3:// and a web server, while one is in service; then a restart."""
    good = put_in_service(stage.place)
    worker = stage.streams()
    _await_bundle(stage, good)
    with closing(create_server((LOOPBACK, 0))) as listener:
        callers: list[object] = []
        Thread(target=_count_callers, args=(listener, callers), daemon=True).start()
        port = listener.getsockname()[1]
        urls = ("nosuch://x/b", "s3://bucket/b", f"http://{LOOPBACK}:{port}/b", "::b")
        for number, url in enumerate(urls, 2):
            announce(stage.place, _announcement(number, url))
        sleep(5.0)
        is_alive = worker.child.is_running
        worker.child.kill()
        worker.child.start()
        is_served = eventually(lambda: _is_served(stage, worker, good), within_s=60, every_s=0.5)
        is_alive_again = worker.child.is_running
    text = (
        f"lives: {is_alive}, after a restart: {is_alive_again}, serves the bundle as before: "
        f"{is_served}, {len(callers)} requests to the address named"
    )
    return Seen(is_alive and is_alive_again and is_served and not callers, text)


def _is_served(stage: Stage, worker: StackProcess, announced: BundleAnnouncement) -> bool:
    """Return whether an answer is made with the bundle that was *announced*."""
    asked = stage.player.ask("u1")
    if not worker.child.is_running or not stage.num_answered({asked}, within_s=5):
        return False
    answer = stage.player.answer_to(asked)
    return bool(answer["bundle_id"] == announced.bundle_id)


def _count_callers(listener: socket, callers: list[object]) -> None:
    try:
        while True:
            callers.append(listener.accept())
    except OSError:  # it is closed
        return


def transient_storage_error(stage: Stage) -> Seen:
    """The files of a bundle cannot be read for two seconds after it was announced."""
    offer, _ = write_bundle(stage.place)
    directory = stage.place.directory / "bundles" / offer.bundle_id
    kept = directory.with_name("kept-aside")
    directory.rename(kept)
    directory.symlink_to(directory.name)  # a loop: an error of input and output, not "not found"
    worker = stage.streams()
    announce(stage.place, msgspec.structs.replace(offer, state=BundleState.INDEXED))
    sleep(2.0)
    directory.unlink()
    kept.rename(directory)
    is_in_service = bool(
        eventually(lambda: worker.logged("bundle_in_service"), within_s=40, every_s=0.5)
    )
    return Seen(is_in_service, f"in service once it can be read: {is_in_service}")


def bad_index_answers(stage: Stage) -> Seen:
    """The index leaves out an answer, and names points beyond 2^63."""
    worker, between = _streams_behind(stage, PATIENCE_MS)
    spoiled: tuple[Spoil, ...] = (index_between.one_too_few, index_between.ids_too_large)
    answered, num_recovered, told = 0, 0, list[set[str]]()
    for number, spoil in enumerate(spoiled):
        between.spoil = spoil
        sent = {stage.player.watch(f"u{number}-{n}", "v1") for n in range(20)}
        answered += stage.num_answered(sent, within_s=20)
        answers = stage.player.recommendations()
        told.append(
            {word for each in answers if sent & {*each["caused_by"]} for word in each["degraded"]}
        )
        between.spoil = index_between.pass_on
        num_recovered += eventually(
            lambda: not stage.answer("probe")["degraded"], within_s=60, every_s=0.5
        )
    is_alive = worker.child.is_running
    text = (
        f"{answered} of 40 answered, degraded {[*map(sorted, told)]}, {num_recovered} of 2 times "
        f"whole again, the worker lives: {is_alive}"
    )
    is_right = answered == 40 and all(told) and num_recovered == len(spoiled)  # noqa: PLR2004
    return Seen(is_right and is_alive, text)


def dripping_index(stage: Stage) -> Seen:
    """The index sends a byte every 0.1 s; the worker may wait 250 ms for an answer."""
    _, between = _streams_behind(stage, PATIENCE_MS)
    between.spoil = index_between.dripping
    begun_s = monotonic()
    answered = stage.num_answered({stage.player.watch("u2", "v1")}, within_s=60)
    took_s = monotonic() - begun_s
    text = f"answered after {took_s:.1f} s, at most {MOST_WAIT_S:g} s with a patience of 0.25 s"
    return Seen(bool(answered) and took_s < MOST_WAIT_S, text)


def strange_header_names(stage: Stage) -> Seen:
    """200 records with header names that are not UTF-8, and good events on another partition."""
    stage.streams()
    stage.num_answered(stage.watches(100, "v", users=100))
    users = stage.user_of_each_partition()
    strange = Record(
        f"{stage.place.prefix}watch-events",
        users[0].encode(),
        b"{}",
        (("\udcff\udcfe", b"1"),),
        system_clock(),
    )
    asyncio.run(send_all(stage.place, [strange] * NUM_STRANGE, 0))
    begun_s = monotonic()
    answered = stage.num_answered({stage.player.watch(users[1], "w")})
    took_s = monotonic() - begun_s
    letters = stage.letters("watch-events", NUM_STRANGE)
    reasons = {reason_of(letter) for letter in letters}
    text = (
        f"{len(letters)} dead letters {sorted(reasons)}, the other partition after {took_s:.1f} s"
    )
    is_right = len(letters) == NUM_STRANGE and reasons == {"header_encoding"}
    return Seen(is_right and bool(answered) and took_s < MOST_WAIT_S, text)


def many_announcements(stage: Stage) -> Seen:
    """The announcements of 30 days, one a minute: the CPU time of a worker that rests."""
    good = put_in_service(stage.place)
    sha = "0" * 64
    announce(
        stage.place,
        *(
            BundleAnnouncement(
                bundle_id=f"old{number}",
                generation=number,
                state=BundleState.WITHDRAWN,
                url=f"file:///nowhere/old{number}",
                manifest_sha256=sha,
                announced_at_ms=system_clock(),
            )
            for number in range(10, 10 + NUM_ANNOUNCEMENTS)
        ),
    )
    worker = stage.streams()
    _await_bundle(stage, good)
    sync = stage.process("index_sync")
    sync.wait_ready(120)
    sleep(5.0)
    shares = [_cpu_share(each, 10.0) for each in (worker, sync)]
    told = ", ".join(
        f"{name} {100 * share:.0f} %"
        for name, share in zip(("streams", "index_sync"), shares, strict=True)
    )
    return Seen(max(shares) <= MOST_CPU, f"of a core at rest: {told}")


def _cpu_share(worker: StackProcess, for_s: float) -> float:
    process = psutil.Process(worker.child.pid)
    before, begun_s = process.cpu_times(), monotonic()
    sleep(for_s)
    after = process.cpu_times()
    return (after.user - before.user + after.system - before.system) / (monotonic() - begun_s)


def one_state_directory(stage: Stage) -> Seen:
    """A second worker on the state directory of a first one."""
    first = stage.streams()
    stage.num_answered(stage.watches(40, "v"))
    second = stage.streams(waits=False, STATE_DIR=first.state_dir)
    code = code_within(second, 30)
    is_named = "NEXTWATCH_STREAMS_STATE_DIR" in text_of(second)
    answered = stage.num_answered(stage.watches(40, "w"))
    text = f"the second exits with {code}, names the setting: {is_named}; {answered} of 40 answered"
    return Seen(code == ExitCode.MISCONFIGURED and is_named and answered == 40, text)  # noqa: PLR2004


def _streams_behind(stage: Stage, patience_ms: int) -> tuple[StackProcess, IndexBetween]:
    """Start a worker with a bundle in service, and something between it and the index."""
    good = put_in_service(stage.place)
    between = IndexBetween(stage.place.stack.qdrant_url)
    stage.callback(between.close)
    stage.use(NEXTWATCH_QDRANT_URL=between.url)
    worker = stage.streams(INDEX_PATIENCE_MS=patience_ms)
    _await_bundle(stage, good)
    return worker, between


def _await_bundle(stage: Stage, announced: BundleAnnouncement) -> None:
    """Wait until answers are made with the bundle that was *announced*."""

    def is_in_service() -> bool:
        answer = stage.answer("probe")
        return bool(answer["bundle_id"] == announced.bundle_id and not answer["degraded"])

    assert eventually(is_in_service, within_s=60, every_s=0.5), "no bundle came into service"


def _announcement(generation: int, url: str) -> BundleAnnouncement:
    return BundleAnnouncement(
        bundle_id=f"bad{generation}",
        generation=generation,
        state=BundleState.INDEXED,
        url=url,
        manifest_sha256=sha256(json.dumps(url).encode()).hexdigest(),
        announced_at_ms=system_clock(),
    )


ROWS = (
    Row("2.1", "announcements of bundles elsewhere", bad_announcements),
    Row("2.2", "a bundle that cannot be read for a moment", transient_storage_error),
    Row("2.3", "wrong answers of the index", bad_index_answers),
    Row("2.4", "an index that sends byte by byte", dripping_index),
    Row("2.5", "header names that are not UTF-8", strange_header_names),
    Row("2.6", "43,200 announcements", many_announcements),
    Row("2.7", "two workers on one state directory", one_state_directory),
)
