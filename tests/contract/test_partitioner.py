"""Everybody who produces puts a user on the same partition: Kafka's murmur2."""

import ast
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contract", "models", "streams", "trainer", "index_sync", "nextwatch", "benchmarks")
FOREIGN = (  # other people's clients, with their own defaults; a player and partitions of its choice
    ROOT / "benchmarks" / "clients",
    ROOT / "benchmarks" / "stack" / "player.py",
    ROOT / "benchmarks" / "stack" / "strange_header_names.py",
)
PRODUCERS = {"Producer", "SerializingProducer", "AIOProducer", "AIOKafkaProducer", "KafkaProducer"}


def _murmur2(data):
    """Work the hash out anew, four bytes at a time (Appleby's MurmurHash2, Kafka's seed)."""
    most, mix = 2**32, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) % most
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * mix % most
        h = (h * mix % most) ^ ((k ^ k >> 24) * mix % most)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * mix % most
    h = (h ^ h >> 13) * mix % most
    return h ^ h >> 15


@given(st.binary(max_size=64), st.integers(1, 64))
def test_fausts_partitioner_is_murmur2_without_its_sign(key, num_partitions):
    """Against the hash worked out by hand, for any bytes, the empty key too."""
    partitions = list(range(num_partitions))

    assert DefaultPartitioner()(key, partitions, partitions) == (
        (_murmur2(key) & 0x7FFFFFFF) % num_partitions
    )


def producers_without_our_configuration(source):
    """Return the lines of *source* that make a producer from anything but `producer_config`."""
    tree = ast.parse(source)
    configured = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _calls(node.value, {"producer_config"})
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and _name(node.func) in PRODUCERS
        and not any(
            _calls(given, {"producer_config"}) or (_name(given) in configured)
            for given in (*node.args, *(keyword.value for keyword in node.keywords))
        )
    ]


def _calls(tree, names):
    return any(isinstance(n, ast.Call) and _name(n.func) in names for n in ast.walk(tree))


def _name(node):
    return getattr(node, "id", getattr(node, "attr", None))


def test_every_producer_of_ours_is_made_by_the_one_configuration():
    """Librdkafka's own default would put a user's events on two partitions."""
    strays = {
        f"{path.relative_to(ROOT)}:{line}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not any(path.is_relative_to(foreign) for foreign in FOREIGN)
        for line in producers_without_our_configuration(path.read_text())
    }

    assert strays == set()


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("Producer(producer_config(kafka))", []),
        ("Producer(quiet(producer_config(kafka)))", []),
        ("config = producer_config(kafka) | {}\nProducer(config)", []),
        ("Producer({'bootstrap.servers': x})", [1]),
        ("config = {}\nconfluent_kafka.Producer(config)", [2]),
        ("AIOKafkaProducer(bootstrap_servers=x)", [1]),
    ],
)
def test_a_producer_that_slips_by_is_found(source, lines):
    """The check itself is checked."""
    assert producers_without_our_configuration(source) == lines
