"""Settings refuse nonsense before anything starts, and keep secrets to themselves."""

import re
from pathlib import Path

import pytest

from contract.errors import ContractError
from contract.kafka.client import consumer_config, producer_config
from contract.process.settings import OF_COMPOSE, WORDS, KafkaSettings, ProcessSettings, load, usage
from nextwatch.settings_reference import GROUPS

ROOT = Path(__file__).parents[3]

_SASL = {
    "NEXTWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "NEXTWATCH_KAFKA_SASL_MECHANISM": "PLAIN",
    "NEXTWATCH_KAFKA_SASL_USERNAME": "somebody",
    "NEXTWATCH_KAFKA_SASL_PASSWORD": "canary-7f3a",
}


def test_defaults_need_nothing():
    """An empty environment is a valid one."""
    assert load(KafkaSettings, {}).bootstrap_servers == "127.0.0.1:9092"


def test_other_programs_variables_are_not_ours():
    """Only our prefix is looked at."""
    assert load(KafkaSettings, {"PATH": "/bin", "KAFKA_HOME": "x"})


def test_the_variables_of_the_compose_file_stop_no_process():
    """Whoever has exported them may run a command of the command line, too."""
    named = set(re.findall(r"\$\{(NEXTWATCH_\w+)", (ROOT / "docker-compose.yml").read_text()))

    assert named == OF_COMPOSE
    assert load(KafkaSettings, dict.fromkeys(named, "x"))


@pytest.mark.parametrize("name", ["NEXTWATCH_BROKR_URL", "NEXTWATCH_KAFKA_BOOTSTRAP"])
def test_a_misspelt_variable_stops_the_start(name):
    """A typo must never be a silent default."""
    with pytest.raises(ContractError, match=name):
        load(KafkaSettings, {name: "x"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVER", "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS"),
        ("NEXTWATCH_KAFAK_USER_PARTITIONS", "NEXTWATCH_KAFKA_USER_PARTITIONS"),
        ("NEXTWATCH_PROCESS_REDY_FILE", "NEXTWATCH_PROCESS_READY_FILE"),
    ],
)
def test_the_variable_that_was_probably_meant_is_named(name, meant):
    """Also where the group is misspelt."""
    group = ProcessSettings if "PROCESS" in name else KafkaSettings
    with pytest.raises(ContractError) as refused:
        load(group, {name: "x"})
    assert str(refused.value) == f"unknown settings: {name} (did you mean {meant}?)"


def test_an_unknown_variable_without_a_similar_one_is_only_named():
    """A wrong guess would mislead."""
    with pytest.raises(ContractError) as refused:
        load(KafkaSettings, {"NEXTWATCH_WEATHER": "x"})
    assert str(refused.value) == "unknown settings: NEXTWATCH_WEATHER"


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_an_error_describes_a_pattern_in_words(group):
    """No regular expression is shown to a person."""
    prefix = group.model_config["env_prefix"]
    patterned = [
        name
        for name, field in group.model_fields.items()
        if any(getattr(one, "pattern", None) for one in field.metadata)
    ]
    for name in patterned:
        with pytest.raises(ContractError) as refused:
            load(group, {f"{prefix}{name.upper()}": "ü ?"})
        words = group.model_fields[name].json_schema_extra[WORDS]
        assert str(refused.value) == f"bad settings: {prefix}{name.upper()}: wanted {words}"


@pytest.mark.parametrize("missing", sorted(_SASL.keys() - {"NEXTWATCH_KAFKA_SECURITY_PROTOCOL"}))
def test_sasl_without_one_of_its_settings_is_refused(missing):
    """By name, before any client is made."""
    given = {name: value for name, value in _SASL.items() if name != missing}
    with pytest.raises(ContractError, match=f"{missing} must be set with NEXTWATCH_KAFKA_SEC"):
        load(KafkaSettings, given)


@pytest.mark.parametrize(
    ("protocol", "name"),
    [
        ("PLAINTEXT", "NEXTWATCH_KAFKA_SASL_USERNAME"),
        ("SSL", "NEXTWATCH_KAFKA_SASL_PASSWORD"),
        ("PLAINTEXT", "NEXTWATCH_KAFKA_SSL_CA_LOCATION"),
    ],
)
def test_credentials_that_would_go_unused_are_refused(protocol, name):
    """Whoever gave them believes that the connection is protected."""
    with pytest.raises(ContractError, match=f"{name} would go unused") as refused:
        load(KafkaSettings, {"NEXTWATCH_KAFKA_SECURITY_PROTOCOL": protocol, name: "canary"})
    assert "canary" not in str(refused.value)


def test_a_value_out_of_bounds_is_named_and_not_quoted():
    """The message says which variable and which bound."""
    with pytest.raises(ContractError, match="NEXTWATCH_KAFKA_USER_PARTITIONS") as refused:
        load(KafkaSettings, {"NEXTWATCH_KAFKA_USER_PARTITIONS": "0"})
    assert "greater than or equal to 1" in str(refused.value)


def test_a_password_reaches_the_client_and_nothing_else():
    """Printing the settings prints no secret."""
    settings = load(KafkaSettings, _SASL)

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


def test_consumers_do_not_commit_automatically():
    """An automatic commit would acknowledge what nobody has processed."""
    assert consumer_config(KafkaSettings(), group_id="g")["enable.auto.commit"] is False


def test_the_help_of_a_process_names_every_variable_with_its_default():
    """In the order of the groups, and what a variable is for beside it."""
    lines = usage(KafkaSettings, ProcessSettings).splitlines()

    assert lines[1].startswith("  NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092  (")
    assert any(line.startswith("  NEXTWATCH_KAFKA_SASL_PASSWORD=  (") for line in lines)
    assert lines[-3] == "  NEXTWATCH_PROCESS_LOG_LEVEL=info"
    assert any("READY_FILE=  (written once" in line for line in lines)
