"""Rights: the least that each process needs, and what is said when one is missing."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not by name
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from benchmarks.player import eventually
from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, Stage
from benchmarks.topic_changes import admin_of
from contract.process import ExitCode
from nextwatch.embedded.ports import LOOPBACK, free_ports

PASSWORD = "open-sesame"  # noqa: S105 - of a broker that lives for a minute
USER = "streams"
NOTICED_WITHIN_S = 20.0
UNAVAILABLE = 503
_SECURED = """
listeners=PLAINTEXT://{host}:{open},SASL_PLAINTEXT://{host}:{secured},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{open},SASL_PLAINTEXT://{host}:{secured}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


def rights_of_streams(stage: Stage) -> Seen:
    """All rights but one at the start, all of them, and one taken away while the worker runs."""
    [secured] = free_ports(1)
    own = stage.with_broker(_lines(secured))
    printed = own.run("nextwatch", "acls", USER, "--json")
    if printed.code != 0:
        return Seen(is_right=False, text=f"`nextwatch acls` exits with {printed.code}")
    granted = json.loads(printed.text)
    _change(own, granted)
    own.use(**_credentials(secured))
    group = next(each for each in granted if each["resource"] == "group")
    _change(own, [group], is_given=False)
    state_dir = {"NEXTWATCH_STREAMS_STATE_DIR": str(own.place.directory / "unused")}
    ended = own.run("streams", env=state_dir)
    is_named = all(word in ended.text for word in (USER, "Read", group["name"]))
    _change(own, [group])
    worker = own.streams()
    answered = own.num_answered(own.watches(40, "a"))
    topic = f"{own.place.prefix}watch-events"
    _change(own, [each for each in granted if each["name"] == topic], is_given=False)
    is_told = eventually(
        lambda: _is_not_ready(worker.health("/readyz"), topic), within_s=NOTICED_WITHIN_S
    )
    text = (
        f"without Read on its group: exit {ended.code}, named: {is_named}; with what is printed "
        f"{answered} of 40 answered; a right taken away: not ready with the reason: {is_told}"
    )
    is_refused = ended.code == ExitCode.MISCONFIGURED and is_named
    return Seen(is_refused and answered == 40 and is_told, text)  # noqa: PLR2004


def _is_not_ready(health: tuple[int, dict[str, Any]], name: str) -> bool:
    status, answer = health
    return status == UNAVAILABLE and name in json.dumps(answer)


def _lines(secured: int) -> str:
    return _SECURED.format(
        host=LOOPBACK,
        open="{port}",
        secured=secured,
        controller="{controller}",
        user=USER,
        password=PASSWORD,
    )


def _credentials(port: int) -> dict[str, str]:
    return {
        "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{port}",
        "NEXTWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "NEXTWATCH_KAFKA_SASL_MECHANISM": "PLAIN",
        "NEXTWATCH_KAFKA_SASL_USERNAME": USER,
        "NEXTWATCH_KAFKA_SASL_PASSWORD": PASSWORD,
    }


def _change(stage: Stage, grants: Iterable[Mapping[str, Any]], *, is_given: bool = True) -> None:
    """Give the rights in *grants* to the user, or take them away."""
    admin = admin_of(stage.place.kafka)
    bindings = [
        (ResourceType[grant["resource"].upper()], grant["name"], _operation(right))
        for grant in grants
        for right in grant["rights"]
    ]
    rest = (ResourcePatternType.LITERAL, f"User:{USER}", "*")
    futures: Mapping[Any, Any]
    if is_given:
        allow = AclPermissionType.ALLOW
        futures = admin.create_acls(
            [AclBinding(kind, name, *rest, operation, allow) for kind, name, operation in bindings]
        )
    else:
        futures = admin.delete_acls(
            [
                AclBindingFilter(kind, name, *rest, operation, AclPermissionType.ANY)
                for kind, name, operation in bindings
            ]
        )
    for future in futures.values():
        future.result(20)


def _operation(right: str) -> AclOperation:
    return AclOperation[right.upper().replace("CONFIGS", "_CONFIGS")]


ROWS = (Row("8.6", "rights, one taken away after the other", rights_of_streams),)
