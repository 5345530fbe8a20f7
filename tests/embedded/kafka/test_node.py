"""The node: its settings, and its formatted directory."""

import uuid

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


def test_changes_replace_settings_add_to_them_and_take_them_away(tmp_path):
    """What a test wants otherwise is said beside what every node has."""
    file = node.configure(
        tmp_path,
        data_dir=tmp_path / "data",
        port=1,
        controller_port=2,
        advertised_port=3,
        changes={"node.id": "7", "advertised.listeners": None, "broker.rack": "a"},
    )
    lines = file.read_text().splitlines()

    assert {"node.id=7", "broker.rack=a"} <= set(lines)
    assert not [line for line in lines if line.startswith("advertised.listeners")]
    assert len([line for line in lines if line.startswith("node.id=")]) == 1


def test_copies_of_one_cluster_share_its_id_alone(tmp_path):
    """A directory id that two brokers share is refused by the controller."""
    template = tmp_path / "template"
    template.mkdir()
    (template / "meta.properties").write_text(
        "#\ncluster.id=x\ndirectory.id=y\nnode.id=1\nversion=1\n"
    )
    for number in (1, 2):
        node.copy_template(template, tmp_path / str(number), cluster_id="ours", node_id=number)
    first, second = (
        dict(
            line.split("=")
            for line in (tmp_path / name / "meta.properties").read_text().split("\n")
            if "=" in line
        )
        for name in ("1", "2")
    )

    assert first["cluster.id"] == second["cluster.id"] == "ours"
    assert (first["node.id"], second["node.id"]) == ("1", "2")
    assert first["directory.id"] != second["directory.id"]


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


def test_a_path_in_any_script_is_one_that_java_reads(tmp_path):
    """Java reads a properties file as ISO 8859-1, with escapes for all else."""
    place = tmp_path / "jürgen 𝄞"
    file = node.configure(tmp_path, data_dir=place, port=1, controller_port=2, advertised_port=3)

    [line] = [line for line in file.read_text("ascii").splitlines() if line.startswith("log.dirs")]
    assert line.endswith(r"/j\u00fcrgen \ud834\udd1e")


def test_a_path_with_a_comma_is_rejected_with_a_message(tmp_path):
    """Kafka would take it for two directories."""
    with pytest.raises(StackError, match="without a comma"):
        node.configure(
            tmp_path, data_dir=tmp_path / "a,b", port=1, controller_port=2, advertised_port=3
        )


def test_a_damaged_template_is_not_taken_for_a_formatted_one(tmp_path):
    """A file of no bytes is what a full disk leaves."""
    (tmp_path / "meta.properties").write_text("")

    assert not node.is_formatted(tmp_path)


def test_files_of_others_are_not_replaced_by_the_template(tmp_path):
    """A directory that holds something, but no log directory, is somebody's."""
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "meta.properties").write_text("#\ncluster.id=x\nnode.id=1\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    with pytest.raises(StackError, match="name another directory"):
        node.copy_template(tmp_path / "template", tmp_path / "data")

    assert (tmp_path / "data" / "thesis.txt").read_text() == "years of work"


def test_options_for_other_javas_do_not_reach_ours():
    """Two garbage collectors would end it at its start."""
    env = node.java_env({"PATH": "/bin", "JAVA_TOOL_OPTIONS": "-XX:+UseG1GC"})

    assert env["PATH"] == "/bin"
    assert "JAVA_TOOL_OPTIONS" not in env


def test_no_id_begins_with_a_dash(monkeypatch):
    """Kafka's tools would take it for an option: one start of 64 failed by it."""
    dashed, plain = (uuid.UUID(bytes=bytes([first]) + bytes(15)) for first in (0xF8, 0x10))
    drawn = iter([dashed, plain])
    monkeypatch.setattr(node.uuid, "uuid4", lambda: next(drawn))

    assert node.random_id() == "EAAAAAAAAAAAAAAAAAAAAA"
