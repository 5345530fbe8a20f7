"""Reports on deployments side by side, error messages and exit codes."""

from typing import NamedTuple

import httpx

from benchmarks.reports.row import Row
from benchmarks.reports.stage import Ended, Seen, Stage
from benchmarks.stack.bundle_in_service import announce, write_bundle
from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode
from nextwatch.embedded.process.ports import free_ports

PROCESSES = (("streams",), ("trainer",), ("index_sync",))
COMMANDS = (
    ("nextwatch", "topics"),
    ("nextwatch", "dlq", "list"),
    ("nextwatch", "erase", "u1"),
    ("nextwatch", "simulate", "--seconds", "1"),
)
UNSET = ""
_COLLECTION_PREFIX = {"NEXTWATCH_QDRANT_COLLECTION_PREFIX": UNSET}


def two_deployments(stage: Stage) -> Seen:
    """A second deployment with a topic prefix of its own, the collection prefix by default."""
    production = stage.another("", **_COLLECTION_PREFIX)
    _index(production, generation=1)
    kept = _collections(stage)
    second = stage.another(f"second-{stage.place.prefix}", **_COLLECTION_PREFIX)
    _index(second, generation=2)
    eventually(lambda: kept - _collections(stage), within_s=5)
    lost = kept - _collections(stage)
    num_new = len(_collections(stage) - kept)
    text = f"{len(lost)} of {len(kept)} collections of the first deployment deleted, {num_new} new"
    return Seen(bool(kept) and not lost and num_new > 0, text)


def _index(stage: Stage, *, generation: int) -> None:
    """Offer a bundle, and have index_sync index it."""
    bundle_id = f"bundle{generation}"
    offer, _ = write_bundle(stage.place, num_videos=20, bundle_id=bundle_id, generation=generation)
    announce(stage.place, offer)
    sync = stage.process("index_sync")

    def is_indexed() -> bool:
        return any(
            announced["state"] == "indexed" and announced["bundle_id"] == bundle_id
            for announced in stage.announcements()
        )

    assert eventually(is_indexed, within_s=60, every_s=0.2), sync.child.log_tail()


def _collections(stage: Stage) -> set[str]:
    found = httpx.get(f"{stage.place.stack.qdrant_url}/collections").json()
    return {each["name"] for each in found["result"]["collections"]}


class Mistake(NamedTuple):
    """Settings that are wrong, and what the one line about them has to name."""

    env: dict[str, str]
    named: tuple[str, ...]


def wrong_settings(stage: Stage) -> Seen:
    """Give every process and command a missing CA file, and SASL_SSL without a mechanism."""
    ca = str(stage.place.directory / "missing-ca.pem")
    mistakes = (
        Mistake(
            {
                "NEXTWATCH_KAFKA_SECURITY_PROTOCOL": "SSL",
                "NEXTWATCH_KAFKA_SSL_CA_LOCATION": ca,
            },
            ("NEXTWATCH_KAFKA_SSL_CA_LOCATION", ca),
        ),
        Mistake(
            {"NEXTWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, ("NEXTWATCH_KAFKA_SASL_MECHANISM",)
        ),
    )
    wrong: list[str] = []
    commands = (*PROCESSES, *COMMANDS)
    for mistake in mistakes:
        ended = stage.run_all(commands, env=mistake.env | _trainer_env(stage))
        wrong += [
            f"{' '.join(argv)}: exit {each.code}, {len(each.lines)} lines"
            for argv, each in zip(commands, ended, strict=True)
            if not _is_one_line(each, ExitCode.MISCONFIGURED, mistake.named)
        ]
    num = len(mistakes) * len(commands)
    text = f"{num - len(wrong)} of {num} end with 78 and one line that names the setting"
    return Seen(not wrong, "; ".join([text, *wrong]))


def exit_codes(stage: Stage) -> Seen:
    """No broker, and a broker without topics, for the three processes."""
    away = {"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_ports(1)[0]}"}
    bare = {"NEXTWATCH_KAFKA_TOPIC_PREFIX": "nothing-here-"}
    codes = {
        "no broker": [each.code for each in stage.run_all(PROCESSES, away | _trainer_env(stage))],
        "no topics": [each.code for each in stage.run_all(PROCESSES, bare | _trainer_env(stage))],
    }
    names = ", ".join(argv[0] for argv in PROCESSES)
    is_right = codes == {"no broker": [69] * 3, "no topics": [78] * 3}
    return Seen(is_right, f"exit codes of {names}: {codes}")


def empty_takedown(stage: Stage) -> Seen:
    """Empty bytes in place of a tombstone on `video-uploads`."""
    sync = stage.process("index_sync")
    sync.wait_ready(60)
    stage.player.upload("v1")
    stage.player.produce("video-uploads", "v1", b"")
    stage.player.flush()
    letters = stage.letters("video-uploads", 1)
    lines = eventually(lambda: sync.logged("record_dead_lettered"), within_s=10)
    levels = [line["level"] for line in lines]
    return Seen(len(letters) == 1 and levels == ["error"], f"a dead letter, told at level {levels}")


def _is_one_line(ended: Ended, code: int, named: tuple[str, ...]) -> bool:
    is_told = all(name in ended.text for name in named)
    return ended.code == code and len(ended.lines) == 1 and is_told


def _trainer_env(stage: Stage) -> dict[str, str]:
    return {
        "NEXTWATCH_TRAINER_CHECKPOINT_DIR": str(stage.place.directory / "checkpoints"),
        "NEXTWATCH_STREAMS_STATE_DIR": str(stage.place.directory / "state"),
        "COLUMNS": "10000",
    }


ROWS = (
    Row("6.1", "two deployments on one index", two_deployments),
    Row("6.2", "wrong security settings", wrong_settings),
    Row("6.3", "exit codes", exit_codes),
    Row("6.4", "an upload of empty bytes", empty_takedown),
)
