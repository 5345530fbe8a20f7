"""The configuration of the model and the ranker, as a file gives it."""

from pathlib import Path

import msgspec
import pytest

from contract.errors import ContractError
from models.features.examples import CompletionRule
from models.ranking.config import RANKERS, RankerConfig
from models.training.config import TowerConfig
from trainer.config_file import Configuration, check_same, configured, documented_fields


@pytest.fixture
def read(tmp_path):
    """Return what reads a text as the file."""

    def read(text):
        path = tmp_path / "trainer.toml"
        path.write_text(text)
        return configured(path, TowerConfig(), RankerConfig())

    return read


def test_without_a_file_everything_is_as_the_model_has_it():
    """The defaults are those that the evaluation runs with."""
    found = configured(None, TowerConfig(), RANKERS["deepfm"])

    assert found == (TowerConfig(), RANKERS["deepfm"])


def test_loss_negatives_widths_caps_and_learning_rates_can_be_set(read):
    """The rest stays."""
    found = read(
        '[model]\nloss = "nce"\nnum_negatives = 64\ndim = 32\npools = [20, 1]\nmax_per_user = 5\n'
        "id_lr = 0.1\n[ranker]\nhidden = [16]\ndense_lr = 1e-4\n"
    )

    assert (found.model.loss, found.model.num_negatives, found.model.dim) == ("nce", 64, 32)
    assert (found.model.pools, found.model.max_per_user, found.model.id_lr) == ((20, 1), 5, 0.1)
    assert (found.ranker.hidden, found.ranker.dense_lr) == ((16,), 1e-4)
    assert found.model.hidden_dim == TowerConfig().hidden_dim


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[model]\nnegativs = 3", "unknown in \\[model\\]: negativs; known: .*negatives"),
        ("[model]\nmodel = 'dssm'", "unknown in \\[model\\]: model"),
        ("[modle]\ndim = 3", "unknown tables"),
        ("[model]\ndim = 'wide'", "Expected `int`"),
        ("[model]\ndim = 0", r"dim must be in \[1, \d+\], got 0"),
        ("[model]\ndense_lr = nan", r"dense_lr must be in \(0, 10\], got nan"),
        ("[model]\nid_moment_decay = 2.0", "id_moment_decay must be in"),
        ("[model]\nnum_replayed = -1", r"num_replayed must be in \[0,"),
        ("[model]\nnum_replayed = 9000", r"num_replayed must be at most replay_size \(8192\)"),
        ("[model]\nmin_id_count = 100000000000000000", "min_id_count must be in"),
        ("[model]\ndense_lr = 1e20", "dense_lr must be in"),
        ("[ranker]\nbuckets = 1", "widths must be positive"),
        ("[ranker]\ntable_lr = inf", "table_lr must be above 0, got inf"),
        ("[ranker]\ndropout = 7.0", "dropout must be in"),
        ("model = 3", "model must be a table"),
        ("[model", "cannot be read"),
    ],
)
def test_a_wrong_file_is_rejected_with_what_is_wrong(read, text, told):
    """A misspelt setting must never be a silent default."""
    with pytest.raises(ContractError, match=told):
        read(text)


def test_a_missing_file_is_rejected(tmp_path):
    """The name of the setting stands in the error."""
    with pytest.raises(ContractError, match="NEXTWATCH_TRAINER_CONFIG"):
        configured(tmp_path / "none.toml", TowerConfig(), RankerConfig())


def test_a_checkpoint_of_another_configuration_is_rejected_with_the_remedy(read):
    """Both values are told, and what to do."""
    saved = read("").recorded()
    now = read("[model]\nid_lr = 0.1").recorded()

    check_same(saved, saved)
    check_same({}, now)
    with pytest.raises(
        ContractError, match=r"model.id_lr was 0.05 and is 0.1; set it back .* move"
    ):
        check_same(saved, now)


def test_the_configuration_of_a_checkpoint_is_the_same_after_it_was_written_and_read(read):
    """JSON has no tuples: a list that was one must not look like a change."""
    recorded = read("").recorded()

    check_same(msgspec.json.decode(msgspec.json.encode(recorded)), recorded)


def test_a_resume_may_change_the_ceiling_and_the_rule_of_completion(read):
    """They are settings of their own, and nothing learned has their shape."""
    saved = read("").recorded()
    changed = TowerConfig(max_videos=5_000, id_expiry_ms=7, completion=CompletionRule(1_000))

    check_same(saved, Configuration(changed, RankerConfig()).recorded())


def test_the_documented_fields_are_all_that_the_file_takes():
    """Uncommented as they stand, they change nothing."""
    lines = [line for line in documented_fields().splitlines() if "unset" not in line]

    assert "num_negatives = 1024" in lines
    assert lines.count("[ranker]") == 1


def test_what_is_documented_is_read_back(read):
    """The page and the reader cannot part."""
    lines = [line for line in documented_fields().splitlines() if "unset" not in line]

    assert read("\n".join(lines)) == (TowerConfig(), RankerConfig())


def test_the_page_lists_what_the_file_takes():
    """Generated: `python -c "from trainer.config_file import *; print(documented_fields())"`."""
    page = Path(__file__).parents[2] / "docs" / "models.md"

    assert documented_fields() in page.read_text(encoding="utf-8")
