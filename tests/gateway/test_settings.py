"""The settings of the gateway are checked before anything starts, and tell no secret."""

import pytest

from contract.errors import ContractError
from contract.process.settings import load
from nextwatch.gateway.settings import GatewaySettings

KEY = "canary-key-0123456789"


def settings(**given):
    """Return settings as the environment gives them."""
    return load(GatewaySettings, {f"NEXTWATCH_GATEWAY_{k.upper()}": v for k, v in given.items()})


def test_it_listens_on_loopback_and_answers_to_its_own_names_by_default():
    assert settings().is_loopback
    assert settings().allowed_hosts == {"localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_known_by_its_address(host, is_loopback):
    assert settings(host=host).is_loopback is is_loopback


def test_a_key_from_the_environment_or_from_a_file_is_the_same(tmp_path):
    file = tmp_path / "key"
    file.write_text(f" {KEY}\n")

    assert settings(api_key=KEY).key() == KEY
    assert settings(api_key_file=str(file)).key() == KEY
    assert settings().key() is None


@pytest.mark.parametrize("key", ["canary", "canary-key 0123456789", "canary-key-öäü-0123456789"])
def test_a_key_that_is_short_or_unprintable_stops_the_start_and_is_not_shown(tmp_path, key):
    file = tmp_path / "key"
    file.write_text(key)

    with pytest.raises(ContractError, match="NEXTWATCH_GATEWAY_API_KEY: ") as of_variable:
        settings(api_key=key)
    with pytest.raises(ContractError, match="NEXTWATCH_GATEWAY_API_KEY_FILE: ") as of_file:
        settings(api_key_file=str(file)).key()

    assert "canary" not in str(of_variable.value) + str(of_file.value)


def test_a_file_that_is_missing_is_named():
    with pytest.raises(ContractError, match="/nowhere/key: No such file"):
        settings(api_key_file="/nowhere/key").key()


def test_two_keys_are_one_too_many(tmp_path):
    with pytest.raises(ContractError, match="not both"):
        settings(api_key=KEY, api_key_file=str(tmp_path))


def test_a_misspelt_setting_stops_the_start():
    with pytest.raises(ContractError, match="NEXTWATCH_GATEWAY_PROT"):
        settings(prot="1")
