"""The embedded stack on real processes: they come up together and go together."""

import os
import socket
import sys
from dataclasses import replace

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from contract.errors import StackError
from contract.kafka.client import client_config, consumer_config, producer_config
from nextwatch.embedded.broker import EmbeddedBroker, choose_broker
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.ports import LOOPBACK, free_ports, is_listening
from nextwatch.embedded.stack import EmbeddedStack, unused_settings

pytestmark = pytest.mark.stack


def test_broker_starts_answers_and_is_gone(tmp_path):
    """A broker needs nothing but a free port, and leaves nothing."""
    broker = EmbeddedBroker(env=dict(os.environ), log_path=tmp_path / "broker.log")
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    assert admin.list_topics(timeout=5).topics == {}
    broker.child.stop()

    assert not is_listening(broker.port)


def test_stolen_port_is_tried_again_elsewhere(monkeypatch, tmp_path):
    """Between choosing a port and using it, somebody else may take it."""
    with socket.socket() as thief:
        thief.bind((LOOPBACK, 0))
        stolen = thief.getsockname()[1]
        choices = [[stolen, free_ports(1)[0]]]
        monkeypatch.setattr(
            "nextwatch.embedded.broker.free_ports",
            lambda count: choices.pop() if choices else free_ports(count),
        )
        broker = EmbeddedBroker(env=dict(os.environ), log_path=tmp_path / "broker.log")
        broker.start()
        broker.child.stop()

    assert broker.port != stolen


def test_a_stack_whose_port_is_taken_meanwhile_moves_with_all_its_clients():
    """The stranger is not taken for its broker; who waits for it is told the new address."""
    code = (
        "import os, time; print(os.environ['NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS']); time.sleep(600)"
    )
    with socket.create_server((LOOPBACK, 0)) as stranger:
        port = stranger.getsockname()[1]
        choice = replace(choose_broker(os.environ), port=port)
        stack = EmbeddedStack(os.environ, processes=("broker", "index"), broker=choice)
        stack.launch()
        added = stack.add_process("added", (sys.executable, "-u", "-c", code))
        stack.await_storage()
        try:
            while not added.log_path.read_text().endswith(f"{stack.bootstrap_servers}\n"):
                assert not added.wait_ended(0.05)
            names = AdminClient(client_config(stack.kafka)).list_topics(timeout=5).topics
        finally:
            stack.stop()

    assert stack.bootstrap_servers != f"{LOOPBACK}:{port}"
    assert "watch-events" in names


def test_an_index_whose_port_is_taken_meanwhile_moves(monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as stranger:
        port = stranger.getsockname()[1]
        choices = [[port]]
        monkeypatch.setattr(
            "nextwatch.embedded.stack.free_ports",
            lambda count: choices.pop() if choices else free_ports(count),
        )
        with EmbeddedStack(os.environ, processes=("index",)) as stack:
            assert stack.process("index").is_ready()
            assert stack.qdrant_url != f"http://{LOOPBACK}:{port}"


def test_a_port_asked_for_by_number_that_is_taken_meanwhile_is_one_line():
    """Another port would not be what was asked for."""
    with socket.create_server((LOOPBACK, 0)) as stranger:
        port = stranger.getsockname()[1]
        choice = replace(choose_broker(os.environ), port=port, is_fixed=True)
        stack = EmbeddedStack(os.environ, processes=("broker",), broker=choice)
        with pytest.raises(StackError) as ended:
            stack.start()

    assert str(ended.value).startswith(f"port {port} was taken meanwhile: name another by --port")
    assert "\n" not in str(ended.value)


def test_two_stacks_that_start_at_once_on_one_port_have_a_broker_each():
    """The faster one keeps the port, the other one moves; they never share a broker."""
    choice = replace(choose_broker(os.environ), port=free_ports(1)[0])
    stacks = [EmbeddedStack(os.environ, processes=("broker",), broker=choice) for _ in range(2)]
    try:
        for stack in stacks:
            stack.launch()
        for stack in stacks:
            stack.await_storage()
        clusters = {
            AdminClient(client_config(stack.kafka)).list_topics(timeout=5).cluster_id
            for stack in stacks
        }
    finally:
        for stack in stacks:
            stack.stop()

    assert len(clusters) == 2
    assert len({stack.bootstrap_servers for stack in stacks}) == 2


def test_storage_comes_up_with_topics_and_leaves_no_process():
    """Broker, index and topics are there within a start; after the stop all is gone."""
    steps = []
    with EmbeddedStack(os.environ, processes=("broker", "index"), on_step=steps.append) as stack:
        children, directory = stack.children, stack.directory
        topics = AdminClient(client_config(stack.kafka)).list_topics(timeout=5).topics
        assert {"watch-events", "watch-events.dlq", "recommendations"} <= set(topics)
        assert all(child.is_running for child in children)

    assert steps == ["broker", "topics", "index"]
    assert not any(child.is_running for child in children)
    assert not directory.exists()


def test_guest_finds_the_stack_and_does_not_outlive_it():
    """A program of the caller's is told where the stack is, and never outlives it."""
    code = "import os, time; print(os.environ['NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS']); {end}"
    with EmbeddedStack(os.environ, processes=("broker",)) as stack:
        stays = stack.add_process(
            "stays", (sys.executable, "-c", code.format(end="time.sleep(600)"))
        )
        leaves = stack.add_process("leaves", (sys.executable, "-c", code.format(end="")))
        assert leaves.wait_ended(20)
        assert leaves.log_path.read_text().strip() == stack.bootstrap_servers

    assert not stays.is_running


def test_interrupt_during_the_start_leaves_no_process(monkeypatch):
    """Ctrl-C while the topics are created stops the broker, too."""

    def interrupt(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("nextwatch.topics.topics.reconcile", interrupt)
    stack = EmbeddedStack(os.environ, processes=("broker",))
    with pytest.raises(KeyboardInterrupt):
        stack.start()

    assert stack.children
    assert not any(child.is_running for child in stack.children)


def test_killed_broker_comes_back_with_its_records():
    """Kafka keeps its records on the disk, so its death is mended like any other."""
    with EmbeddedStack(os.environ, processes=("broker",)) as stack:
        broker = stack.process("broker")
        first = broker.pid
        broker.kill(is_wanted=True)
        while not stack.restarts or not broker.is_ready():
            stack.check()
            broker.wait_ended(0.05)
        topics = AdminClient(client_config(stack.kafka)).list_topics(timeout=20).topics

    assert broker.pid != first
    assert "watch-events" in topics


def test_death_of_a_broker_in_memory_ends_the_stack(monkeypatch, tmp_path):
    """It kept everything in memory: there is nothing to restart it with, but the logs stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tansu = choose_broker(os.environ, broker="tansu")
    with EmbeddedStack(os.environ, processes=("broker",), broker=tansu) as stack:
        stack.process("broker").kill(is_wanted=True)
        while not stack.failure:
            stack.process("broker").wait_ended(0.05)
        with pytest.raises(StackError, match="the stack ends"):
            stack.check()
        is_kept = stack.directory
    assert (is_kept / "logs" / "broker.log").exists()


def test_topics_outlive_the_stack_in_a_named_directory(tmp_path):
    """The next stack in the directory goes on with the records of this one."""
    with EmbeddedStack(os.environ, processes=("broker",), state_dir=tmp_path) as stack:
        producer = Producer(producer_config(stack.kafka))
        producer.produce("watch-events", key="u1", value="kept", partition=0)
        assert producer.flush(10) == 0
    with EmbeddedStack(os.environ, processes=("broker",), state_dir=tmp_path) as stack:
        consumer = Consumer(consumer_config(stack.kafka, group_id="test"))
        consumer.assign([TopicPartition("watch-events", 0, OFFSET_BEGINNING)])
        record = consumer.poll(10)
        consumer.close()

    assert record.value() == b"kept"


def test_a_running_kafka_is_used_and_none_is_started(tmp_path):
    """With a broker that runs, the stack creates the topics there and starts no other."""
    broker = EmbeddedBroker(env=dict(os.environ), log_path=tmp_path / "broker.log")
    broker.start()
    choice = choose_broker({}, bootstrap_servers=broker.bootstrap_servers)
    environ = {**os.environ, "NEXTWATCH_KAFKA_TOPIC_PREFIX": "mine-"}
    with EmbeddedStack(environ, processes=("broker", "index"), broker=choice) as stack:
        names = [child.name for child in stack.children]
        topics = AdminClient(client_config(stack.kafka)).list_topics(timeout=5).topics
    broker.child.stop()

    assert names == ["index"]
    assert "mine-watch-events" in topics


def test_failed_start_leaves_no_process(tmp_path):
    """A worker that cannot start takes the stack down with its own last words."""
    stack = EmbeddedStack(
        os.environ,
        processes=("broker", "index_sync"),
        state_dir=tmp_path,
        env_of={"index_sync": {"NEXTWATCH_MISSPELT": "1"}},
    )
    with pytest.raises(StackError, match="index_sync ended"):
        stack.start()

    assert not any(child.is_running for child in stack.children)


def test_unknown_process_is_refused():
    """The error lists what there is."""
    with pytest.raises(ValueError, match="known: broker, index, index_sync, streams, trainer"):
        EmbeddedStack(os.environ, processes=("brokr",))


def test_children_inherit_no_setting_of_ours():
    """A setting of the caller's shell must not leak into a stack that has its own."""
    env = inherited({"PATH": "/bin", "NEXTWATCH_QDRANT_URL": "http://elsewhere"})

    assert env["PATH"] == "/bin"
    assert not [name for name in env if name.startswith("NEXTWATCH_")]


def test_settings_that_the_stack_does_not_use_are_listed():
    """Who sets one hears that it does nothing."""
    environ = dict.fromkeys(
        [
            "HOME",
            "NEXTWATCH_TEST_REQUIRE",
            "NEXTWATCH_KAFKA_COMPRESSION_TYPE",
            "NEXTWATCH_KAFKA_HOME",
            "NEXTWATCH_KAFKA_SASL_USERNAME",
            "NEXTWATCH_STREAMS_NUM_RECOMMENDED",
        ],
        "x",
    )

    own, given = (unused_settings(environ, is_kafka_given=is_given) for is_given in (False, True))

    assert own == ["NEXTWATCH_KAFKA_SASL_USERNAME", "NEXTWATCH_STREAMS_NUM_RECOMMENDED"]
    assert given == ["NEXTWATCH_STREAMS_NUM_RECOMMENDED"]
