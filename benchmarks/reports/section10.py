"""Reports on Qdrant's API keys, and on the first start on a fresh broker."""

import json
import os
from time import monotonic

from benchmarks.reports.index_between import Asked, IndexAnswer, IndexBetween, wants_key
from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, Stage, text_of
from benchmarks.stack.bundle_in_service import announce, put_in_service, write_bundle
from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode
from nextwatch.embedded.stack import EmbeddedStack

KEY = "right-key"
UNAVAILABLE = 503
START_S = 60.0
_KEY_SETTING = "NEXTWATCH_QDRANT_API_KEY"


def wrong_key(stage: Stage) -> Seen:
    """No key, then a wrong one; then the key is changed under a worker."""
    between = IndexBetween(stage.place.stack.qdrant_url, wants_key(KEY))
    stage.callback(between.close)
    url = {"NEXTWATCH_QDRANT_URL": between.url}
    state_dir = {"NEXTWATCH_STREAMS_STATE_DIR": str(stage.place.directory / "unused")}
    commands = [("streams",), ("index_sync",)]
    without = stage.run_all(commands, url | state_dir)
    wrong = stage.run_all(commands, url | state_dir | {_KEY_SETTING: "wrong-key"})
    ended = [*without, *wrong]
    codes = [each.code for each in ended]
    is_named = all(_KEY_SETTING in each.text and between.url in each.text for each in ended)
    put_in_service(stage.place)
    stage.use(**url, **{_KEY_SETTING: KEY})
    worker = stage.streams()
    is_ready = eventually(lambda: worker.health("/readyz")[0] == 200, within_s=30)  # noqa: PLR2004
    between.spoil = wants_key("another-key")
    stage.player.watch("u1", "v1")
    stage.player.flush()
    is_told = eventually(lambda: _is_not_ready(worker.health("/readyz")), within_s=20)
    text = (
        f"exit codes of streams and index_sync {codes}, key and URL named: {is_named}; key changed "
        f"at run time: not ready with the reason: {is_told}"
    )
    is_right = set(codes) == {int(ExitCode.MISCONFIGURED)} and is_named
    return Seen(is_right and is_ready and is_told, text)


def _is_not_ready(health: tuple[int, dict[str, object]]) -> bool:
    status, answer = health
    told = json.dumps(answer)
    return status == UNAVAILABLE and ("401" in told or _KEY_SETTING in told)


def key_over_http(stage: Stage) -> Seen:
    """A key over plain http: what index_sync and streams write about it."""
    stage.use(**{_KEY_SETTING: KEY})
    workers = [stage.process("index_sync"), stage.streams()]
    for worker in workers:
        worker.wait_ready(60)
    lines = [line for worker in workers for line in text_of(worker).splitlines() if line.strip()]
    strange = [line for line in lines if line[:1] != "{"]
    text = f"{len(strange)} of {len(lines)} lines are no JSON: {strange[:1]}"
    return Seen(bool(lines) and not strange, text)


def timed_out_create(stage: Stage) -> Seen:
    """The index creates a collection, but answers too late; the second request gets a 409."""
    late = iter([3.0])

    def spoil(asked: Asked, answer: IndexAnswer) -> IndexAnswer:
        is_create = asked.method == "PUT" and asked.path.split("?")[0].count("/") == 2  # noqa: PLR2004
        return answer._replace(delay_s=next(late, 0.0)) if is_create else answer

    between = IndexBetween(stage.place.stack.qdrant_url, spoil)
    stage.callback(between.close)
    stage.use(NEXTWATCH_QDRANT_URL=between.url, NEXTWATCH_QDRANT_TIMEOUT_MS="1000")
    offer, _ = write_bundle(stage.place, num_videos=20)
    announce(stage.place, offer)
    sync = stage.process("index_sync")

    def is_indexed() -> bool:
        return any(announced["state"] == "indexed" for announced in stage.announcements())

    indexed = eventually(is_indexed, within_s=60, every_s=0.2)
    text = f"indexed: {indexed}, index_sync lives: {sync.child.is_running}"
    return Seen(indexed and sync.child.is_running and next(late, None) is None, text)


def fresh_start(_stage: Stage) -> Seen:
    """A stack on a fresh broker: does index_sync start without ending once?"""
    processes = ("broker", "index", "index_sync", "streams")
    begun_s = monotonic()
    with EmbeddedStack(os.environ, processes=processes) as stack:
        took_s = monotonic() - begun_s
        restarts = stack.restarts
    num_restarts = sum(restarts.values())
    text = f"ready after {took_s:.1f} s, {num_restarts} processes ended and were started again"
    return Seen(not num_restarts and took_s < START_S, text)


ROWS = (
    Row("8.9", "an answer of the index that came too late", timed_out_create),
    Row("10.1", "a missing or wrong API key", wrong_key),
    Row("10.2", "an API key over http", key_over_http),
    Row("10.4", "the start on a fresh broker", fresh_start),
)
