"""Which broker the tests run on: Apache Kafka, and in CI nothing else."""

import os

import pytest

from contract.errors import StackError
from nextwatch.embedded.broker import choose_engine

_REQUIRED = (
    "kafka" in os.environ.get("NEXTWATCH_TEST_REQUIRE", "") or os.environ.get("CI") == "true"
)


def pytest_report_header():
    """Name the broker; fetch and prepare it before the first test has to wait for it."""
    try:
        engine = choose_engine(os.environ, may_fall_back=not _REQUIRED)
    except StackError as error:
        if _REQUIRED:
            pytest.exit(f"the tests need Apache Kafka: {error}", returncode=2)
        return f"embedded broker: none ({error})"
    return f"embedded broker: {engine.name}. {engine.warning}".rstrip(". ")
