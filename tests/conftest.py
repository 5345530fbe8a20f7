"""Which broker the tests run on, what is skipped where torch is not installed, fixed examples.

The broker is Apache Kafka, and in CI nothing else.
"""

import os
from importlib.util import find_spec

import pytest
import structlog
from hypothesis import HealthCheck, settings

from contract.errors import StackError
from nextwatch.embedded.broker import choose_engine

_REQUIRED = (
    "kafka" in os.environ.get("NEXTWATCH_TEST_REQUIRE", "") or os.environ.get("CI") == "true"
)
_TRAIN = ("torch", "onnx")

# The same examples in each run, however slow the machine is: a second to make the table of Unicode
# where nothing is cached, and a full processor, failed tests that found nothing.
settings.register_profile(
    "fixed",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("fixed")


def pytest_report_header():
    """Name the broker; fetch and prepare it before the first test has to wait for it."""
    try:
        engine = choose_engine(os.environ, may_fall_back=not _REQUIRED)
    except StackError as error:
        if _REQUIRED:
            pytest.exit(f"the tests need Apache Kafka: {error}", returncode=2)
        return f"embedded broker: none ({error})"
    return f"embedded broker: {engine.name}. {engine.warning}".rstrip(". ")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put files with tests on a whole stack first: at the end one of them would run alone."""
    on_a_stack = {item.path for item in items if item.get_closest_marker("stack")}
    items.sort(key=lambda item: item.path not in on_a_stack)


@pytest.fixture(autouse=True)
def _logs_as_before():
    """Undo what a command run in this process made of structlog: its stream is closed by now."""
    yield
    structlog.reset_defaults()


def pytest_pycollect_makemodule(module_path, parent):
    """Collect a module of tests; skip it when it needs the ``train`` extra, and that is absent."""
    return Module.from_parent(parent, path=module_path)


class Module(pytest.Module):
    """A module of tests that says in one line that it needs torch, instead of failing."""

    def collect(self):
        """Return the tests of this module."""
        if self.path.parent.name == "trainer" and not find_spec("torch"):
            pytest.skip(
                f"{self.nodeid} needs torch, which is not installed", allow_module_level=True
            )
        try:
            return super().collect()
        except self.CollectError as error:
            if _is_absent(error.__cause__):
                what = f"{self.nodeid} needs {error.__cause__.name}, which is not installed"
                pytest.skip(what, allow_module_level=True)
            raise


def _is_absent(error):
    """Return whether *error* says that a library of the ``train`` extra is not installed."""
    return (
        isinstance(error, ModuleNotFoundError)
        and error.name in _TRAIN
        and not find_spec(error.name)
    )
