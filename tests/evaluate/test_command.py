"""The command as people run it: figures, report, and errors with their remedy."""

import json
import sys

import pytest
from typer.testing import CliRunner

import nextwatch.evaluate
from contract.errors import DatasetError
from nextwatch.commands.cli import app
from nextwatch.evaluate.ranks import MEASURES
from tests.support.trial_logs import write_kuairand, write_ml1m

for extra in ("pyarrow", "implicit", "matplotlib"):
    pytest.importorskip(extra, reason="the evaluate extra is not installed")


def run(*arguments):
    """Return what the command ended with."""
    return CliRunner().invoke(app, ["evaluate", "retrieval", *map(str, arguments)])


def figures(*arguments):
    """Return the last line of stdout, which is one JSON object."""
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def kuairand(tmp_path_factory):
    """The folder of a small KuaiRand."""
    return write_kuairand(tmp_path_factory.mktemp("kuairand"))


def test_json_has_every_figure(kuairand):
    """Of the one who is measured, of its frozen copy, and of the baselines in the same run."""
    told = figures("--data", f"kuairand:{kuairand}", "--model", "popularity_24h")

    wanted = {*MEASURES, "coverage_at_100", "gini_at_100", "per_day", "intervals", "n"}
    assert wanted | {"frozen", "baselines", "train_seconds", "seeds"} <= told.keys()
    assert wanted <= told["frozen"].keys()
    assert {"popularity_frozen", "ials_64", "item_cosine", "ease_x_popularity_24h"} <= set(
        told["baselines"]
    )
    assert all(wanted <= one.keys() for one in told["baselines"].values())
    assert set(told["per_day"]) == {"2022-05-01", "2022-05-02"}


@pytest.mark.long
def test_a_model_is_measured_as_the_trainer_starts_for_the_first_time_too(kuairand):
    """Beside windows, of which it learns by its defaults; where nobody is known there are none."""
    pytest.importorskip("torch", reason="the train extra is not installed")
    options = ("--model", "youtube_dnn", "--seeds", 1, "--no-baselines", "--no-frozen")
    known, unknown = (
        figures("--data", f"kuairand:{kuairand}", *options, "--start", start)
        for start in ("histories", "nothing")
    )

    assert known["first_start"]["n"] == known["n"]
    assert known["first_start"].keys() >= {*MEASURES, "intervals"}
    assert unknown["first_start"] is None


def test_the_same_command_prints_the_same_figures(kuairand):
    """Down to the interval; only what was measured in seconds differs."""
    arguments = ("--data", f"kuairand:{kuairand}", "--model", "ease", "--no-baselines")
    one, other = (figures(*arguments) for _ in range(2))

    for told in (one, other):
        del told["train_seconds"], told["score_ms"]
    assert one == other


def test_leave_one_out_has_no_frozen_copies(tmp_path):
    """Nothing is learned during it, so there is nothing that could have stopped."""
    told = figures("--data", f"ml1m:{write_ml1m(tmp_path)}", "--model", "directed_cooccurrence")

    assert told["n"] == 20
    assert told["frozen"] is None
    assert told["recall_at_10"] > told["baselines"]["popularity_frozen"]["recall_at_10"]


def test_a_report_is_a_table_a_picture_and_the_figures(kuairand, tmp_path):
    """Everybody has a line in the table, and the picture is one."""
    found = run(
        *("--data", f"kuairand:{kuairand}", "--model", "popularity_24h"), "--report", tmp_path
    )

    assert found.exit_code == 0, found.output
    table = (tmp_path / "retrieval.md").read_text()
    assert "| **popularity_24h** |" in table
    assert "| popularity_24h, frozen |" in table
    assert "| ease_x_popularity_24h |" in table
    assert (tmp_path / "retrieval-kuairand.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "retrieval.json").read_text())[0]["data"] == "kuairand"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "netflix:x", "--model", "ease"), "kuairand:DIR, ml1m:DIR, movielens:DIR"),
        (("--data", "kuairand:/nowhere", "--model", "ease"), "https://kuairand.com"),
    ],
)
def test_an_error_in_the_data_is_reported_with_the_remedy(arguments, told):
    """One error of ours, which the command line prints as one line."""
    found = run(*arguments)

    assert isinstance(found.exception, DatasetError)
    assert told in str(found.exception)


def test_a_missing_extra_is_named(monkeypatch):
    """Nobody has to find out from a traceback what to install."""
    for name in [name for name in sys.modules if name.startswith("nextwatch.evaluate.")]:
        if name != "nextwatch.commands.evaluate":
            monkeypatch.delitem(sys.modules, name)
    for name in [name for name in vars(nextwatch.evaluate) if not name.startswith("_")]:
        if name != "cli":
            monkeypatch.delattr(nextwatch.evaluate, name)
    monkeypatch.setitem(sys.modules, "scipy", None)

    found = run("--data", "kuairand:/nowhere", "--model", "ease")

    assert "pip install 'nextwatch[evaluate]'" in str(found.exception)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--model", "oracle"), "known: "),
        (("--model", "youtube_dnn", "--set", "dim"), "NAME=VALUE"),
        (("--model", "youtube_dnn", "--set", "depth=3"), "unknown settings: depth"),
        (("--model", "youtube_dnn", "--set", "dim=wide"), "refused"),
        (("--model", "ease", "--window", "winter"), "tune, test"),
        (("--model", "ease", "--start", "warm"), "histories, windows, nothing"),
        ((), "--all for every one"),
    ],
)
def test_wrong_options_are_rejected_before_anything_is_read(arguments, told):
    """Nothing is at that path, and nobody has looked."""
    if {"oracle", "youtube_dnn"} & set(arguments):
        pytest.importorskip("torch", reason="the train extra is not installed")
    found = run("--data", "kuairand:/nowhere", *arguments)

    assert found.exit_code == 2
    assert told in " ".join(found.output.replace("│", " ").split())


def test_kept_runs_are_not_run_again(kuairand, tmp_path):
    """Down to the CPU seconds, which no second run would have; what is new is measured beside."""
    data = ("--data", f"kuairand:{kuairand}", "--no-baselines", "--keep", tmp_path)
    first = figures(*data, "--model", "ease")

    again = figures(*data, "--model", "ease", "--model", "popularity_6h")

    assert {**again["trials"][0]["models"]["ease"], "model": "ease"} == {
        key: first[key] for key in ("model", *again["trials"][0]["models"]["ease"])
    }
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_a_kept_run_of_other_code_or_settings_does_not_count(kuairand, tmp_path, monkeypatch):
    """It stays where it is, and another one comes to lie beside it."""
    data = ("--data", f"kuairand:{kuairand}", "--no-baselines", "--keep", tmp_path)
    figures(*data, "--model", "ease")

    figures(*data, "--model", "ease", "--max-watches", "20")
    monkeypatch.setattr("nextwatch.evaluate.kept.code", lambda: b"of tomorrow")
    figures(*data, "--model", "ease")

    assert len(list(tmp_path.rglob("ease-*.npz"))) == 3


def test_all_writes_the_page_of_results_with_its_picture(kuairand, tmp_path, monkeypatch):
    """A picture of the same name lies beside the page, and the page shows it."""
    pytest.importorskip("torch", reason="the train extra is not installed")
    monkeypatch.setattr("nextwatch.evaluate.entrants.model_names", lambda: ["popularity_24h"])
    page = tmp_path / "results" / "found.md"

    found = run("--data", f"kuairand:{kuairand}", "--all", "--seeds", "1", "--page", page)

    assert found.exit_code == 0, found.output
    assert "| **popularity_24h** |" in page.read_text()
    assert "](found-kuairand.png)" in page.read_text()
    assert (page.parent / "found-kuairand.png").exists()
