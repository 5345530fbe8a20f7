"""The command as people run it: figures, report, and errors with their remedy."""

import json

import pytest
from typer.testing import CliRunner

from contract.errors import DatasetError
from nextwatch.commands.cli import app
from nextwatch.evaluate.ranking import entrants
from nextwatch.evaluate.ranking import run as runs
from tests.support.trial_logs import write_kuairand

for extra in ("pyarrow", "lightgbm", "matplotlib", "scipy"):
    pytest.importorskip(extra, reason="the evaluate extra is not installed")

KEYS = {
    *("auc", "gauc", "log_loss", "ndcg_at_5", "weighted_per_user_loss", "mae_s", "xauc"),
    *("predicted_to_watched_total", "rank_loss", "precision_at_5", "recall_at_5", "intervals"),
}


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", "rank", *map(str, arguments)])


def figures(*arguments):
    """Return the last line of stdout, which is one JSON object."""
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The option that names the folder of a small KuaiRand."""
    return "--data", f"kuairand:{write_kuairand(tmp_path_factory.mktemp('kuairand'))}"


def test_json_has_every_figure_of_every_contender(data):
    names = ("live_counter", "lightgbm", "factorisation_machine")
    found = figures(*data, *(word for name in names for word in ("--model", name)))

    assert set(found["contenders"]) == {"control", *names}
    assert all(found["contenders"][name].keys() >= KEYS for name in found["contenders"])
    assert found["protocol"] == "prequential"
    assert found["n"] == 200


def test_the_control_takes_part_in_every_run_and_is_at_chance(data):
    found = figures(*data, "--model", "live_counter")

    assert set(found["contenders"]) == {"live_counter", "control"}
    assert found["is_control_at_chance"]
    assert found["contenders"]["control"]["gauc"] == pytest.approx(0.5, abs=0.01)


def test_the_same_command_prints_the_same_figures(data):
    one, other = (figures(*data, "--model", "factorisation_machine") for _ in range(2))

    for found in (one, other):
        for told in found["contenders"].values():
            del told["train_seconds"], told["score_ms"]
    assert one == other


def test_techjam_is_about_long_views_and_has_no_frozen_copies(data):
    found = figures(*data, "--protocol", "techjam", "--model", "live_counter")

    assert found["label"] == "long_view"
    assert found["period"] == "29 April-4 May"
    assert "frozen" not in found["contenders"]["live_counter"]


def test_more_than_one_protocol_is_one_trial_each(data):
    found = figures(
        *data, "--model", "live_counter", "--protocol", "static", "--protocol", "prequential"
    )

    assert [trial["protocol"] for trial in found["trials"]] == ["static", "prequential"]


def test_seeds_are_averaged(data):
    one = figures(*data, "--model", "factorisation_machine")
    two = figures(*data, "--model", "factorisation_machine", "--seeds", "2")

    assert two["seeds"] == 2
    assert (
        two["contenders"]["factorisation_machine"]["gauc"]
        != one["contenders"]["factorisation_machine"]["gauc"]
    )


def test_a_report_is_a_table_a_picture_and_the_figures(data, tmp_path):
    found = run(*data, "--model", "live_counter", "--report", tmp_path)

    assert found.exit_code == 0, found.output
    assert "| live_counter |" in (tmp_path / "ranking.md").read_text()
    assert (tmp_path / "ranking-prequential.png").read_bytes().startswith(b"\x89PNG")
    assert "contenders" in json.loads((tmp_path / "ranking.json").read_text())[0]


def test_figures_are_printed_though_the_report_cannot_be_written(data, tmp_path):
    """They took hours."""
    (tmp_path / "file").touch()

    found = run(*data, "--model", "live_counter", "--report", tmp_path / "file" / "out", "--json")

    assert isinstance(found.exception, OSError)
    assert "contenders" in json.loads(found.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "netflix:x"), "kuairand:DIR"),
        (("--data", "kuairand:/nowhere"), "https://kuairand.com"),
        (("--data", "kuairand:/nowhere", "--protocol", "offline"), "prequential, static, techjam"),
        (("--data", "kuairand:/nowhere", "--model", "oracle"), "known: control"),
        (("--data", "kuairand:/nowhere", "--window", "winter"), "test, tune"),
    ],
)
def test_an_error_is_reported_with_the_remedy(arguments, told):
    """One error of ours, which the command line prints as one line."""
    found = run(*arguments)

    assert isinstance(found.exception, DatasetError)
    assert told in str(found.exception)


def test_ablations_are_the_default_ranker_with_one_thing_changed(data, monkeypatch):
    """The paper's table: it is measured beside the ranker that it takes apart."""
    measured = []

    def noted(trial, *, tell):
        measured.extend(trial.models)
        raise DatasetError("noted")

    monkeypatch.setattr(runs, "run", noted)
    run(*data, "--ablations")

    assert measured == ["expected_watch_time", *entrants.ABLATIONS]
    changed = [
        {
            field
            for field in ("has_roots", "is_weighted", "hidden")
            if getattr(config, field) != getattr(entrants.DEFAULT, field)
        }
        for config in entrants.ABLATIONS.values()
    ]
    assert all(len(fields) == 1 for fields in changed)
