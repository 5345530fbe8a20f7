"""Settings refuse nonsense before anything starts, and keep secrets to themselves."""

import pytest

from contract.errors import ContractError
from contract.kafka import consumer_config, producer_config
from contract.settings import KafkaSettings, ProcessSettings, load, usage


def test_defaults_need_nothing():
    """An empty environment is a valid one."""
    assert load(KafkaSettings, {}).bootstrap_servers == "127.0.0.1:9092"


def test_other_programs_variables_are_not_ours():
    """Only our prefix is looked at."""
    assert load(KafkaSettings, {"PATH": "/bin", "KAFKA_HOME": "x"})


@pytest.mark.parametrize("name", ["NEXTWATCH_BROKR_URL", "NEXTWATCH_KAFKA_BOOTSTRAP"])
def test_a_misspelt_variable_stops_the_start(name):
    """A typo must never be a silent default."""
    with pytest.raises(ContractError, match=name):
        load(KafkaSettings, {name: "x"})


def test_a_value_out_of_bounds_is_named_and_not_quoted():
    """The message says which variable and which bound."""
    with pytest.raises(ContractError, match="NEXTWATCH_KAFKA_USER_PARTITIONS") as refused:
        load(KafkaSettings, {"NEXTWATCH_KAFKA_USER_PARTITIONS": "0"})
    assert "greater than or equal to 1" in str(refused.value)


def test_a_password_reaches_the_client_and_nothing_else():
    """Printing the settings prints no secret."""
    settings = load(KafkaSettings, {"NEXTWATCH_KAFKA_SASL_PASSWORD": "canary-7f3a"})

    assert "canary" not in repr(settings)
    assert producer_config(settings)["sasl.password"] == "canary-7f3a"


def test_producers_place_keys_as_faust_does():
    """Librdkafka's own default would split a user's events over two partitions."""
    assert producer_config(KafkaSettings())["partitioner"] == "murmur2_random"


def test_what_is_produced_is_readable_by_every_client_unless_a_codec_is_named():
    """Kafkajs stops at the first batch of a codec that it does not know, such as lz4."""
    named = load(KafkaSettings, {"NEXTWATCH_KAFKA_COMPRESSION_TYPE": "zstd"})

    assert producer_config(KafkaSettings())["compression.type"] == "none"
    assert producer_config(named)["compression.type"] == "zstd"


def test_consumers_commit_only_when_told_to():
    """An automatic commit would acknowledge what nobody has processed."""
    assert consumer_config(KafkaSettings(), group_id="g")["enable.auto.commit"] is False


def test_the_help_of_a_process_names_every_variable_with_its_default():
    """In the order of the groups, and what a variable is for beside it."""
    lines = usage(KafkaSettings, ProcessSettings).splitlines()

    assert lines[1].startswith("  NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092  (")
    assert any(line.startswith("  NEXTWATCH_KAFKA_SASL_PASSWORD=  (") for line in lines)
    assert lines[-1] == "  NEXTWATCH_PROCESS_LOG_LEVEL=info"
    assert any("READY_FILE=  (written once" in line for line in lines)
