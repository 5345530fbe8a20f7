"""docs/models.md has the names that the code takes."""

import re
from pathlib import Path

import pytest

from trainer.settings import Model

pytest.importorskip("torch")

from models.tdm.scorer import TdmConfig
from models.training.config import TowerConfig
from models.training.losses import HIERARCHICAL, LOSSES
from models.training.negatives import NEGATIVES

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def _row(name: str) -> str:
    """Return what the table of losses and negatives says of the setting *name*."""
    [row] = re.findall(rf"^\| `{name}` \| (.+) \|$", PAGE, re.MULTILINE)
    return row


def test_losses_and_negatives_are_those_of_the_code():
    """A name that is copied from the page into `--set` is taken."""
    assert set(re.findall(r"`(\w+)`", _row("loss"))) == {*LOSSES, HIERARCHICAL}
    assert set(re.findall(r"`(\w+)`", _row("negatives"))) == {*NEGATIVES, "sample_alpha"}
    assert f"`{TowerConfig.__dataclass_fields__['loss'].default}` (default)" in _row("loss")


def test_every_model_of_the_trainer_has_a_row():
    """`python -m trainer --model NAME` takes each of them."""
    named = set(
        re.findall(r"^\| `(\w+)`(?: \(default\))? \| .+ \| .+ \d{4} \|$", PAGE, re.MULTILINE)
    )

    assert named == set(Model.__args__)


def test_the_tree_is_rebuilt_as_often_as_the_page_says():
    """A number on the page is the number in the code."""
    assert f"after {TdmConfig().rebuild_examples} examples (`rebuild_examples`" in PAGE
