"""What is released says what it is: one version, its changes, its types."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from contract.version import VERSION

ROOT = Path(__file__).parents[2]
PACKAGES = ("contract", "models", "streams", "trainer", "index_sync", "nextwatch")


def test_the_changelog_has_a_section_for_the_version():
    """It is the newest; while it is worked on its heading says that it is not released."""
    [newest, *_] = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert newest in {VERSION, f"{VERSION} (unreleased)"}


def test_the_page_on_upgrading_tells_how_to_come_to_the_version():
    """Workers of two releases side by side can be told apart, and so can their notes."""
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "upgrading.md").read_text(), re.MULTILINE)

    assert any(heading.endswith(f" to {VERSION}") for heading in headings)


def test_the_contract_bears_the_version():
    assert (
        yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())["info"]["version"] == VERSION
    )


def test_the_distribution_takes_its_version_from_the_contract():
    """So that it stands in one place, and a checkout that is not installed knows it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"] == {"path": "contract/version.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package):
    """Without the marker a type checker ignores the annotations of an installed package."""
    assert (ROOT / package / "py.typed").exists()
