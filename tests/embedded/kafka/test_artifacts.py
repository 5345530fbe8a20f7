"""The pins: every jar by version and checksum, and none of another one."""

from nextwatch.embedded.kafka.artifacts import KAFKA_VERSION, pinned


def test_all_of_kafka_is_of_one_version():
    """A library of another release, drawn in by a dependency, would not start right."""
    versions = {pin.version for pin in pinned() if pin.group == "org.apache.kafka"}

    assert versions == {KAFKA_VERSION}


def test_no_jar_is_pinned_twice():
    """Two versions of one library on a class path are a matter of luck."""
    names = [(pin.group, pin.name) for pin in pinned()]

    assert len(names) == len(set(names))


def test_a_changed_byte_is_another_jar(tmp_path):
    """Size alone would not see it."""
    pin = pinned()[0]
    forged = tmp_path / pin.file_name
    forged.write_bytes(b"x" * pin.num_bytes)

    assert not pin.is_at(forged)


def test_a_missing_jar_is_not_there(tmp_path):
    """The first start finds an empty cache."""
    assert not pinned()[0].is_at(tmp_path / "none.jar")
