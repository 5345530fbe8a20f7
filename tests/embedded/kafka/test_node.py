"""The node: its settings, and its formatted directory."""

import pytest

from contract.errors import StackError
from nextwatch.embedded.kafka import node
from nextwatch.embedded.kafka.distribution import unpacked


def test_nothing_listens_beyond_loopback(tmp_path):
    """Every address in the settings is 127.0.0.1."""
    file = node.configure(
        tmp_path, data_dir=tmp_path / "data", port=1, controller_port=2, advertised_port=3
    )
    settings = dict(line.split("=", 1) for line in file.read_text().splitlines())
    addresses = [settings[name] for name in ("listeners", "advertised.listeners")]

    assert (
        ",".join(addresses).replace("127.0.0.1", "")
        == "PLAINTEXT://:1,CONTROLLER://:2,PLAINTEXT://:3"
    )
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:2"


def test_each_copy_of_the_template_is_a_cluster_of_its_own(tmp_path):
    """Offsets of one cluster must never pass for those of another."""
    template = tmp_path / "template"
    template.mkdir()
    (template / "meta.properties").write_text("#\ncluster.id=same\nnode.id=1\nversion=1\n")
    ids = set()
    for name in ("a", "b"):
        node.copy_template(template, tmp_path / name)
        lines = (tmp_path / name / "meta.properties").read_text().splitlines()
        assert [line for line in lines if not line.startswith("cluster.id")] == [
            *("#", "node.id=1", "version=1"),
        ]
        ids |= {line for line in lines if line.startswith("cluster.id")}

    assert len(ids) == 2


def test_a_folder_without_kafka_is_refused_with_what_is_missing(tmp_path):
    """The error names the jar, so that a wrong folder is recognised."""
    with pytest.raises(StackError, match=r"libs/kafka_2\.13-\*\.jar is missing"):
        unpacked(tmp_path, {})
