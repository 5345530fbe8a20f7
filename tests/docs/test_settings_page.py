"""The page of settings says what the processes read."""

from pathlib import Path

from typer.testing import CliRunner

from contract.process import settings as contract_settings
from contract.process.settings import PREFIX
from nextwatch import settings_reference
from nextwatch.commands import cli

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_current():
    """If this fails: python -m nextwatch.settings_reference > docs/settings.md."""
    assert PAGE.read_text() == settings_reference.render()


def test_the_command_line_prints_the_page():
    """Whoever has no checkout has the page, too."""
    assert CliRunner().invoke(cli.app, ["settings"]).output == settings_reference.render()


def test_every_group_of_settings_is_on_the_page():
    """A process whose settings nobody listed would refuse what a reader cannot look up."""
    listed = {group.model_config["env_prefix"] for group in settings_reference.GROUPS}
    tests_own = {PREFIX + "TEST_"}

    assert listed == {PREFIX + group for group in contract_settings.GROUPS} - tests_own


def test_choices_and_bounds_are_told():
    """Before the start refuses a value, the page has said which ones are taken."""
    lines = {
        line.split("`")[1]: line
        for line in settings_reference.render().splitlines()
        if "`NEXTWATCH_" in line
    }

    assert "`PLAIN` or `SCRAM-SHA-256`" in lines["NEXTWATCH_KAFKA_SASL_MECHANISM"]
    assert "from 1 to 1,024" in lines["NEXTWATCH_KAFKA_USER_PARTITIONS"]
    assert "more than 0" in lines["NEXTWATCH_TRAINER_POPULARITY_HALF_LIFE_H"]


def test_every_setting_of_the_broker_is_described():
    """Whoever connects a secured cluster has to know what each row asks for."""
    assert all(field.description for field in contract_settings.KafkaSettings.model_fields.values())
