"""Have each Kafka client upload, watch and read its recommendation; the last line is JSON.

Example: python -m benchmarks.clients
Example: python -m benchmarks.clients --bootstrap 127.0.0.1:9092   # a stack that is up

A client whose program is not installed is skipped with its reason, unless
NEXTWATCH_TEST_REQUIRE=clients: then that is a failure.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from benchmarks.clients.programs import Kafkajs, Kcat, install_kafkajs
from benchmarks.clients.scenario import Client, converse
from benchmarks.clients.stack import stack_up

Start = Callable[[str], Client]


def main() -> int:
    """Run all clients, one after another; return 1 when one failed that should not."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="the broker of a running stack")
    given = parser.parse_args().bootstrap
    is_required = "clients" in os.environ.get("NEXTWATCH_TEST_REQUIRE", "")
    with (
        TemporaryDirectory(prefix="nextwatch-clients-") as directory,
        nullcontext(given) if given else stack_up(Path(directory)) as bootstrap_servers,
    ):
        found = {
            name: _tried(name, start, bootstrap_servers, lacks)
            for name, (start, lacks) in _clients(Path(directory)).items()
        }
    print(json.dumps(found))
    return int(
        any(not each["ok"] and (is_required or "skipped" not in each) for each in found.values())
    )


def _clients(directory: Path) -> dict[str, tuple[Start, str]]:
    """Return how each client is started, and what it lacks here."""
    no_node = [name for name in ("node", "npm") if shutil.which(name) is None]
    no_kcat = "" if shutil.which("kcat") else "kcat is not installed: apt-get install kcat"
    return {
        "confluent_kafka": (_confluent_kafka, ""),
        "aiokafka": (_aiokafka, ""),
        "kafkajs": (
            partial(_kafkajs, directory=directory),
            f"{' and '.join(no_node)} not installed" if no_node else "",
        ),
        "kcat": (Kcat, no_kcat),
    }


def _tried(name: str, start: Start, bootstrap_servers: str, lacks: str) -> dict[str, Any]:
    if lacks:
        print(f"{name}: skipped: {lacks}")
        return {"ok": False, "skipped": lacks}
    began_s = monotonic()
    try:
        client = start(bootstrap_servers)
        joined_s = monotonic() - began_s
        try:
            heard = converse(client)
        finally:
            client.close()
    except Exception as error:  # noqa: BLE001 - whatever a client raises is its result
        print(f"{name}: failed: {error}")
        return {"ok": False, "error": str(error) or type(error).__name__}
    seconds = round(monotonic() - began_s, 2)
    print(f"{name}: ready after {joined_s:.1f} s, answered in {heard.answer_ms} ms")
    return {
        "ok": True,
        "seconds": seconds,
        "ready_s": round(joined_s, 2),
        "answer_ms": heard.answer_ms,
    }


def _confluent_kafka(bootstrap_servers: str) -> Client:
    from benchmarks.clients.libraries import ConfluentKafka  # noqa: PLC0415 - each may be missing

    return ConfluentKafka(bootstrap_servers)


def _aiokafka(bootstrap_servers: str) -> Client:
    from benchmarks.clients.libraries import Aiokafka  # noqa: PLC0415

    return Aiokafka(bootstrap_servers)


def _kafkajs(bootstrap_servers: str, *, directory: Path) -> Client:
    place = directory / "kafkajs"
    place.mkdir()
    install_kafkajs(place)
    return Kafkajs(bootstrap_servers, directory=place)


if __name__ == "__main__":
    sys.exit(main())
