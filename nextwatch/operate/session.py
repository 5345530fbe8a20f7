"""Provide the operator's commands with settings, a scan, an outbox and output.

The composition root of these commands: nothing else of `operate` reads the environment.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from contract.cluster.needs import Needs
    from contract.kafka.outbox import Outbox
    from contract.process.settings import KafkaSettings
    from nextwatch.operate.scan import Scan

_FILE_WIDTH = 200


def kafka_settings() -> "KafkaSettings":
    """Return the settings of the broker, from the environment.

    Raises:
        ContractError: a variable is unknown or out of bounds.
    """
    from contract.process.settings import KafkaSettings, load  # noqa: PLC0415

    return load(KafkaSettings, os.environ)


def outbox_of(kafka: "KafkaSettings") -> "Outbox":
    """Return an outbox to the broker."""
    from confluent_kafka import Producer  # noqa: PLC0415

    from contract.kafka.client import producer_config  # noqa: PLC0415
    from contract.kafka.outbox import Outbox  # noqa: PLC0415

    return Outbox(Producer(producer_config(kafka, linger_ms=5) | {"log_level": 0}))


@contextmanager
def scan_of(kafka: "KafkaSettings", needs: "Needs") -> "Iterator[Scan]":
    """Yield a scan for a command with these *needs*, which shows its progress.

    Raises:
        BrokerUnavailable: no broker answers.
        ContractError: the connection settings are refused, or a right or a topic is missing.
    """
    from rich.console import Console  # noqa: PLC0415

    from contract.cluster.preflight import Preflight  # noqa: PLC0415
    from nextwatch.operate.scan import Scan  # noqa: PLC0415

    with Console(stderr=True).status("asking the broker") as status:
        Preflight(kafka, needs).check_use()
        yield Scan(
            kafka,
            monotonic=monotonic,
            on_progress=lambda num_read: status.update(f"{num_read:,} records read"),
        )


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a `ValueError` into a usage error of the command."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def print_table(table: "Table") -> None:
    """Print *table* as wide as the terminal; in a file without folding."""
    from rich.console import Console  # noqa: PLC0415

    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH).print(table)


def print_wide(told: "RenderableType") -> None:
    """Print tables and lines as wide as the terminal; in a file without folding."""
    from rich.console import Console  # noqa: PLC0415

    Console(width=None if sys.stdout.isatty() else _FILE_WIDTH, highlight=False).print(told)


def to_ascii_json(told: object) -> str:
    """Return *told* as JSON that may hold text of others: no byte of it can move a terminal.

    Everything beyond printable ASCII is escaped, the control characters from 0x7F on, too.
    """
    import json  # noqa: PLC0415

    import msgspec  # noqa: PLC0415

    plain = json.loads(msgspec.json.encode(told))  # which writes null for what is not finite
    return json.dumps(plain, allow_nan=False).replace("\x7f", "\\u007f")


def to_json(told: object) -> str:
    """Return *told*, which consists of structs and plain values, as JSON."""
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(told).decode()
