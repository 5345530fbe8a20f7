"""The programs on docs/events.md do what the page says, on a real broker."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from confluent_kafka import Consumer, Producer

from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.process.settings import KafkaSettings
from contract.wire.decoding import decode
from contract.wire.examples import WINDOW_RECORD, dead_letter_example, payload_of
from contract.wire.topics import TOPICS, WATCH_EVENTS, WINDOWS
from nextwatch.topics.topics import reconcile
from tests.support.brokers import broker_with
from tests.support.groups import members_of
from tests.support.kafkajs import install_kafkajs
from tests.support.signals import children_that_hear_ctrl_c

pytestmark = pytest.mark.timeout(300)

TIMES = ("event_time_ms", "uploaded_at_ms", "requested_at_ms", "erase_before_ms")
PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
ADDRESS = "127.0.0.1:9092"
BY_NAME = {topic.name: topic for topic in TOPICS if topic.producers}
SENT = sorted(topic.name for topic in BY_NAME.values() if topic.is_from_outside)
READ = sorted({*BY_NAME, WATCH_EVENTS.dlq} - set(SENT))


def _program(name, language):
    """Return the program of *language* under the heading of the topic *name*."""
    heading = "Dead letters" if name == WATCH_EVENTS.dlq else name
    section = re.split(r"^## ", PAGE.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]
    [text] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return text


@pytest.fixture(scope="module")
def bootstrap_servers(tmp_path_factory):
    """A broker with the topics' own names."""
    settings = {"group_initial_rebalance_delay_ms": 0}
    with broker_with(tmp_path_factory.mktemp("broker"), **settings) as broker:
        reconcile(KafkaSettings(bootstrap_servers=broker.bootstrap_servers))
        yield broker.bootstrap_servers


def _written(program, directory, bootstrap_servers):
    assert ADDRESS in program
    path = directory / "program.py"
    path.write_text(program.replace(ADDRESS, bootstrap_servers))
    return [sys.executable, str(path)]


@pytest.mark.parametrize("name", SENT)
def test_a_python_program_that_sends_puts_a_valid_event_of_now_on_its_topic(
    bootstrap_servers, tmp_path, name
):
    """Of the same fields as the example, on the partition that its key belongs to."""
    argv = _written(_program(name, "python"), tmp_path, bootstrap_servers)
    began_ms = system_clock()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    message = _first(bootstrap_servers, name)

    kind = BY_NAME[name].kind
    assert decode(BY_NAME[name], kind, message.key(), message.value())
    fields = json.loads(message.value())
    assert set(fields) == set(payload_of(kind))
    dated = [given for field, given in fields.items() if field in TIMES]
    assert dated
    assert all(given >= began_ms for given in dated)


def _first(bootstrap_servers, name):
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"test-{name}",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([name])
    try:
        message = eventually(lambda: consumer.poll(1.0), within_s=60, every_s=0.0)
        assert message.error() is None
        return message
    finally:
        consumer.close()


def test_python_programs_that_read_print_what_is_on_their_topic(bootstrap_servers, tmp_path):
    """All side by side, since each joins a group of its own."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    for name in READ:
        value, headers = _value(name)
        producer.produce(name, key="k", value=value, headers=headers)
    assert producer.flush(30) == 0
    told, children = {name: [] for name in READ}, []
    try:
        for name in READ:
            folder = tmp_path / name
            folder.mkdir()
            argv = _written(_program(name, "python"), folder, bootstrap_servers)
            child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            children.append(child)
            lines = told[name]
            Thread(target=_collect, args=(child.stdout, lines), daemon=True).start()
        assert eventually(lambda: all(told.values()), within_s=120, every_s=0.2), told
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()

    assert {name: lines[0].rstrip("\n") for name, lines in told.items()} == {
        name: _printed(name) for name in READ
    }


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_program_that_reads_prints_again_at_once_after_ctrl_c(
    bootstrap_servers, tmp_path, language
):
    """It leaves its group: the next one would be given no partition for 30 to 45 s."""
    name, group = "item-vectors", f"leaves-in-{language}"
    program = _program(name, language)
    assert program.count("reader-of-item-vectors") == 1
    own = re.sub(r"(js-)?reader-of-item-vectors", group, program)  # others of the group are killed
    argv = _written(own, tmp_path, bootstrap_servers)
    if language == "javascript":
        install_kafkajs(tmp_path)
        program = (tmp_path / "program.py").rename(tmp_path / "program.mjs")
        argv = ["node", str(program)]
    producer = Producer({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    for _ in range(2):
        producer.produce(name, key="k", value=_value(name)[0])
        assert producer.flush(30) == 0
        began_s = time.monotonic()
        with children_that_hear_ctrl_c():
            child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        lines = []
        Thread(target=_collect, args=(child.stdout, lines), daemon=True).start()
        try:
            printed = eventually(
                lambda told=lines: [one for one in told if one.startswith("k ")], within_s=60
            )
            passed_s = time.monotonic() - began_s
            child.send_signal(signal.SIGINT)
            child.wait(20)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
        assert printed
        assert passed_s < 25
        # without leaving it would be a member for 30 s and longer
        assert eventually(lambda: not members_of(bootstrap_servers, group), within_s=10)


def _collect(stream, lines):
    with suppress(ValueError):  # closed at the end of the test
        lines.extend(stream)


def _value(name):
    if name == WATCH_EVENTS.dlq:
        letter = dead_letter_example()
        return letter["payload"].encode(), letter["headers"]
    if name == WINDOWS.name:
        return WINDOW_RECORD, None
    return json.dumps(payload_of(BY_NAME[name].kind)).encode(), None


def _printed(name):
    value, headers = _value(name)
    if name == WATCH_EVENTS.dlq:
        return f"k {value} {[(one, given.encode()) for one, given in headers.items()]}"
    return f"k {value if name == WINDOWS.name else json.loads(value)}"


@pytest.mark.parametrize("name", [*SENT, *READ])
def test_a_javascript_program_is_one_by_its_syntax(tmp_path, name):
    """Kafkajs itself is run by the tests of `examples/javascript`."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    path = tmp_path / "program.mjs"
    path.write_text(_program(name, "javascript"))
    done = subprocess.run(
        ("node", "--check", path), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [*SENT, *READ])
def test_a_kcat_command_reads_its_topic_or_sends_a_valid_event(name):
    """By bash, with a stand-in for kcat that prints what it is given."""
    command = _program(name, "bash")
    assert f"-t {name} " in command
    stand_ins = "kcat() { if [ $1 = -P ]; then cat; fi; }; uuidgen() { echo an-id; }\n"
    done = subprocess.run(
        ("bash", "-e", "-c", stand_ins + command),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    if name in SENT:
        topic, value = BY_NAME[name], done.stdout.encode()
        key = json.loads(value)[topic.key_field].encode()
        assert set(json.loads(value)) == set(payload_of(topic.kind))
        assert decode(topic, topic.kind, key, value)
