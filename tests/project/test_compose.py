"""docker-compose.yml and the Dockerfile say what docs/deploy.md promises; no engine is needed."""

import re
from pathlib import Path

import pytest
import yaml

from contract.version import VERSION
from nextwatch.gateway.server import drain_s
from nextwatch.gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_image_tags_and_label_bear_the_version():
    assert f'org.opencontainers.image.version="{VERSION}"' in DOCKERFILE
    assert SERVICES["streams"]["image"] == f"${{NEXTWATCH_IMAGE:-nextwatch:{VERSION}}}"
    assert (
        SERVICES["trainer"]["image"] == f"${{NEXTWATCH_TRAINER_IMAGE:-nextwatch-trainer:{VERSION}}}"
    )


def test_one_image_serves_all_but_the_trainer_and_is_built_once():
    ours = {name: each for name, each in SERVICES.items() if "NEXTWATCH_IMAGE" in each["image"]}

    assert set(ours) == {"topics", "streams", "index_sync", "audience", "gateway"}
    assert [name for name, each in ours.items() if "build" in each] == ["topics"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_limited_and_started_again(name):
    assert SERVICES[name]["mem_limit"]
    assert SERVICES[name]["restart"] == ("on-failure" if name == "topics" else "unless-stopped")


def test_no_health_check_starts_more_than_a_shell():
    """A JVM every five seconds was half of a core; an interpreter of Python is a tenth."""
    own = [
        each["healthcheck"]["test"][:2]
        for each in SERVICES.values()
        if "test" in each.get("healthcheck", {})
    ]

    assert own == [["CMD", "bash"]] * 3
    assert re.findall(r"^HEALTHCHECK .*", DOCKERFILE, re.MULTILINE) == [
        'HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["nextwatch-healthy"]'
    ]


def test_ports_are_variables_on_loopback():
    """Two projects run beside each other, and nobody else reaches either."""
    ports = [port for each in SERVICES.values() for port in each.get("ports", ())]

    assert len(ports) == 3
    assert all(
        re.fullmatch(r"127\.0\.0\.1:\$\{NEXTWATCH_\w+_PORT:-\d+}:\d+", port) for port in ports
    )
    assert "name" not in COMPOSE


def test_the_gateway_has_time_to_answer_what_waits_for_an_acknowledgement():
    """With the longest that may be set: Compose has no way to derive it."""
    [grace_s] = re.findall(r"^(\d+)s$", SERVICES["gateway"]["stop_grace_period"])

    assert int(grace_s) >= drain_s(GatewaySettings(ack_within_ms=60_000)) + 5


def test_the_console_is_told_the_ports_that_compose_publishes():
    page = (ROOT / "docs" / "console.md").read_text()
    default = r"(127\.0\.0\.1):\$\{NEXTWATCH_\w+_PORT:-(\d+)}:\d+"
    kafka, index = (
        ":".join(re.fullmatch(default, SERVICES[name]["ports"][0]).groups())
        for name in ("kafka", "qdrant")
    )

    assert page.count(f"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS={kafka}") == 2
    assert page.count(f"NEXTWATCH_QDRANT_URL=http://{index}") == 2
    assert f"nextwatch:{VERSION} nextwatch console" in page
    image_bundles = COMPOSE["x-settings"]["NEXTWATCH_PROCESS_BUNDLE_URL"]
    assert f"NEXTWATCH_PROCESS_BUNDLE_URL={image_bundles}" in page


def test_the_broker_keeps_its_data_in_its_volume():
    kafka = SERVICES["kafka"]

    assert kafka["volumes"] == [f"kafka:{kafka['environment']['KAFKA_LOG_DIRS']}"]
    assert kafka["environment"]["CLUSTER_ID"]


def test_only_what_the_dockerfile_copies_is_sent_to_the_engine():
    """A checkout with an installation has gigabytes in .venv."""
    sent = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = {path.partition("/")[0] for line in lines for path in line.split()}

    assert sent == copied
