"""Reports on ACLs: the rights each process needs, and the message when one is missing."""

import json
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AclBinding,
    AclOperation,
    ResourceType,
)

from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, Stage
from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode

USER = "streams"
NUM_EVENTS = 40
NOTICED_WITHIN_S = 20.0
UNAVAILABLE = 503


def rights_of_streams(stage: Stage) -> Seen:
    """All rights but one at the start, all of them, and one taken away while the worker runs."""
    own, cluster = stage.on_cluster(protocol="SASL_PLAINTEXT", users=[USER], has_acls=True)
    printed = own.run("nextwatch", "acls", USER, "--json")
    if printed.code != 0:
        return Seen(is_right=False, text=f"`nextwatch acls` exits with {printed.code}")
    granted = {grant["name"]: _allow(own, grant) for grant in json.loads(printed.text)}
    group = next(name for name, acls in granted.items() if acls[0].restype is ResourceType.GROUP)
    own.use(**cluster.env(USER))
    own.operator.forbid(granted[group])
    state_dir = {"NEXTWATCH_STREAMS_STATE_DIR": str(own.place.directory / "unused")}
    ended = own.run("streams", env=state_dir)
    is_named = all(word in ended.text for word in (USER, "Read", group))
    own.operator.allow(USER, ResourceType.GROUP, group, AclOperation.READ)
    worker = own.streams()
    answered = own.num_answered(own.watches(NUM_EVENTS, "a"))
    topic = own.topic("watch-events")
    own.operator.forbid(granted[topic])
    is_told = eventually(
        lambda: _is_not_ready(worker.health("/readyz"), topic), within_s=NOTICED_WITHIN_S
    )
    text = (
        f"without Read on its group: exit {ended.code}, named: {is_named}; with what is printed "
        f"{answered} of {NUM_EVENTS} answered; a right taken away: not ready with the reason: "
        f"{is_told}"
    )
    is_refused = ended.code == ExitCode.MISCONFIGURED and is_named
    return Seen(is_refused and answered == NUM_EVENTS and is_told, text)


def _allow(stage: Stage, grant: dict[str, Any]) -> list[AclBinding]:
    kind = ResourceType[grant["resource"].upper()]
    operations = [
        AclOperation[right.upper().replace("CONFIGS", "_CONFIGS")] for right in grant["rights"]
    ]
    return stage.operator.allow(USER, kind, grant["name"], *operations)


def _is_not_ready(health: tuple[int, dict[str, Any]], name: str) -> bool:
    status, answer = health
    return status == UNAVAILABLE and name in json.dumps(answer)


ROWS = (Row("8.6", "rights, one taken away after the other", rights_of_streams),)
