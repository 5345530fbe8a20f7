"""A worker does not take part in a cluster that its settings do not fit."""

import errno
import os
import re
import socket
import sys

import pytest

from contract.cluster import preflight
from contract.cluster.preflight import (
    check_cluster,
    check_directory,
    hold_own_directory,
)
from contract.errors import (
    BrokerUnavailable,
    BundleError,
    ContractError,
    IndexUnavailable,
    StackError,
    StorageFull,
    WorkerPausedError,
)
from contract.kafka.client import producer_config
from contract.process import entrypoint
from contract.process.exit_codes import ExitCode, code_of
from contract.process.settings import KafkaSettings, QdrantSettings, load
from nextwatch.embedded.process.ports import free_ports
from streams.__main__ import main


@pytest.fixture
def taken_port():
    """A port on which somebody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.timeout(10)
def test_a_broker_that_is_away_is_waited_for_within_bounds():
    """The message names the setting, and no secret."""
    [port] = free_ports(1)
    kafka = KafkaSettings(
        bootstrap_servers=f"127.0.0.1:{port}",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="somebody",
        sasl_password="canary-7f3a",
    )

    with pytest.raises(BrokerUnavailable, match="NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS") as refused:
        check_cluster(kafka, "streams", patience_s=0.3)
    assert f"127.0.0.1:{port} within 0.3 s" in str(refused.value)
    assert "Connection refused" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_connection_settings_that_the_client_refuses_are_a_persons_matter(tmp_path):
    """Starting again would not help."""
    (tmp_path / "ca.pem").write_text("no certificate")
    kafka = KafkaSettings(security_protocol="SSL", ssl_ca_location=str(tmp_path / "ca.pem"))

    with pytest.raises(ContractError, match="settings of Kafka"):
        check_cluster(kafka, "streams")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("SASL authentication error: Authentication failed", "NEXTWATCH_KAFKA_SASL_PASSWORD"),
        ("Unsupported SASL mechanism: broker's supported mechanisms: PLAIN", "SASL_MECHANISM"),
        ("SSL routines::certificate verify failed", "SSL_CA_LOCATION: .* instead of /etc/ca.pem"),
        (
            "SSL routines::tlsv13 alert certificate required: SSL alert number 116",
            "SSL_CERTIFICATE_LOCATION: .* instead of none",
        ),
    ],
)
def test_a_connection_that_is_refused_is_a_persons_matter(said, wanted):
    """Waiting does not mend a password or an authority."""
    kafka = KafkaSettings(security_protocol="SSL", ssl_ca_location="/etc/ca.pem")

    assert re.search(wanted, preflight._remedy_of_refusal(said, kafka))
    assert not preflight._remedy_of_refusal("Connection refused", kafka)


def test_an_invalid_certificate_is_reported_with_its_variable_and_path(tmp_path):
    """The line of librdkafka's says which of its own properties it is about."""
    (tmp_path / "ca.pem").write_text("no certificate")
    kafka = KafkaSettings(security_protocol="SSL", ssl_ca_location=str(tmp_path / "ca.pem"))

    with pytest.raises(ContractError, match=r"mend NEXTWATCH_KAFKA_SSL_CA_LOCATION=/.*/ca\.pem$"):
        check_cluster(kafka, "streams")


def test_a_certificate_that_is_not_there_is_named_with_its_variable_and_path():
    """Every client finds it before librdkafka does."""
    kafka = KafkaSettings(security_protocol="SSL", ssl_ca_location="/nowhere/ca.pem")

    with pytest.raises(
        ContractError, match=r"NEXTWATCH_KAFKA_SSL_CA_LOCATION: /nowhere/ca\.pem: No"
    ):
        producer_config(kafka)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    """As root, too: there is no directory below a file."""
    (tmp_path / "file").touch()

    with pytest.raises(ContractError, match=r"X_DIR: /.*/file/state: Not a directory: name"):
        check_directory(tmp_path / "file" / "state", "X_DIR")


def test_workers_that_share_a_directory_each_use_a_free_subdirectory(tmp_path):
    """Also one that a worker has left: its windows are there."""
    first, holding_first = hold_own_directory(tmp_path)
    second, holding_second = hold_own_directory(tmp_path)
    holding_first.close()
    third, holding_third = hold_own_directory(tmp_path)
    holding_second.close()
    holding_third.close()

    assert [each.name for each in (first, second, third)] == ["worker-1", "worker-2", "worker-1"]


def test_a_full_disk_has_an_exit_code_of_its_own(tmp_path, monkeypatch):
    """The directory is there, and nothing fits in it."""

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(preflight.tempfile, "TemporaryFile", lambda dir: Full())  # noqa: A006

    with pytest.raises(StorageFull, match=r"X_DIR: .*: No space left on device: make room") as full:
        check_directory(tmp_path, "X_DIR")
    assert code_of(full.value) is ExitCode.STORAGE_FULL


@pytest.mark.parametrize(
    "servers", ["http://broker:9092", "kafka:port", "user:secret@kafka:9092", "", "a b"]
)
def test_an_invalid_broker_address_is_rejected_and_not_quoted(servers):
    """Before anything is asked of the network."""
    with pytest.raises(ContractError, match="NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS") as refused:
        load(KafkaSettings, {"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": servers})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("servers", ["kafka:9092", "kafka", "a:1, b.c-d:2", "[::1]:9092"])
def test_valid_broker_addresses_are_accepted(servers):
    """One or several, with or without a port."""
    given = {"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": servers}

    assert load(KafkaSettings, given).bootstrap_servers == servers


@pytest.mark.parametrize(
    "url", ["qdrant:6333", "ftp://qdrant", "http://", "http://user:secret@qdrant:6333"]
)
def test_an_invalid_index_url_is_rejected_and_not_quoted(url):
    """A password in a URL would end up in logs: there is a setting for the key."""
    with pytest.raises(ContractError, match="NEXTWATCH_QDRANT_URL") as refused:
        load(QdrantSettings, {"NEXTWATCH_QDRANT_URL": url})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContractError("x"), ExitCode.MISCONFIGURED),
        (BundleError("x"), ExitCode.MISCONFIGURED),
        (BrokerUnavailable("x"), ExitCode.BROKER_AWAY),
        (WorkerPausedError("x"), ExitCode.PAUSED),
        (IndexUnavailable("x"), ExitCode.BROKER_AWAY),
        (StackError("x"), ExitCode.UNDONE),
        (OSError(errno.ENOSPC, "x"), ExitCode.STORAGE_FULL),
        (Exception("IO error: No space left on device: /db/7.log"), ExitCode.STORAGE_FULL),
        (OSError(errno.EIO, "x"), ExitCode.FAILED),
        (RuntimeError("x"), ExitCode.FAILED),
    ],
)
def test_each_way_to_end_has_a_code_of_its_own(error, code):
    """Supervisors act on numbers."""
    assert code_of(error) == code


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NEXTWATCH_QDRANT_URL", "http://u:canary@h", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_STREAMS_STATE", "canary", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_STREAMS_STATE_DIR", "/dev/null/x", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_STREAMS_HTTP_PORT", "{taken}", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_PROCESS_READY_FILE", "/dev/null/x/ready", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_SASL_PASSWORD", "canary", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:{port}", ExitCode.BROKER_AWAY),
    ],
)
def test_a_worker_that_cannot_start_prints_one_line(
    tmp_path, monkeypatch, capfd, taken_port, name, value, code
):
    """With the setting to look at, a code of its own, and no secret."""
    [port] = free_ports(1)
    given = {
        "NEXTWATCH_STREAMS_STATE_DIR": str(tmp_path),
        "NEXTWATCH_QDRANT_API_KEY": "canary",
        name: value.format(port=port, taken=taken_port),
    }
    monkeypatch.setattr(os, "environ", given)
    monkeypatch.setattr(sys, "argv", ["streams"])
    monkeypatch.setattr(entrypoint, "exit_now", sys.exit)
    monkeypatch.setattr(preflight, "PATIENCE_S", 0.3)

    with pytest.raises(SystemExit) as ended:
        main()

    written = "".join(capfd.readouterr()).splitlines()
    [line] = [line for line in written if not line.startswith("%")]  # clients of other tests
    assert ended.value.code == code
    assert line.startswith("streams: ")
    assert name in line
    assert "canary" not in line
