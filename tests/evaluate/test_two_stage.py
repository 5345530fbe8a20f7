"""Both stages in a trial: what retrieval finds, in the order in which it would be served."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from typer.testing import CliRunner  # noqa: E402

from contract.errors import DatasetError  # noqa: E402
from models.bundle import bundle, ranker_export  # noqa: E402
from models.features.ranking_features import small_code  # noqa: E402
from models.history.history import WindowPolicy, with_context  # noqa: E402
from models.ranking.config import RANKERS  # noqa: E402
from models.serving.candidates import ranking_inputs, request_columns  # noqa: E402
from models.training.config import TowerConfig  # noqa: E402
from nextwatch.commands.cli import app  # noqa: E402
from nextwatch.evaluate.contender import TrainingData  # noqa: E402
from nextwatch.evaluate.learned import Learned  # noqa: E402
from nextwatch.evaluate.logs.trial import surface_context  # noqa: E402
from nextwatch.evaluate.people import People  # noqa: E402
from nextwatch.evaluate.prequential import LIVE, Entrant, EvaluationPace, replay  # noqa: E402
from nextwatch.evaluate.two_stage.contender import FirstStage, TwoStage  # noqa: E402
from nextwatch.evaluate.two_stage.run import losses  # noqa: E402
from streams.serving.generation import load  # noqa: E402
from tests.support.trial_logs import drawn_rows, history, trial_log, write_kuairand  # noqa: E402
from trainer.learn.learner import Learner  # noqa: E402

SMALL = TowerConfig(dim=8, hidden_dim=8, content_buckets=64, context_buckets=16)
RANKER = dataclasses.replace(RANKERS["expected_watch_time"], dim=8, history_passes=1)
BY_EIGHT = EvaluationPace(most_completed=8, span_ms=60_000)
NUM_VIDEOS, NUM_CANDIDATES = 30, 8
HISTORIES = [history(f"u{user}", [user, user + 5, user + 9]) for user in range(6)]


@pytest.fixture(autouse=True)
def _one_thread():
    """Several threads on tiny tensors wait for each other for most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def log_of(*, num_rows=120, tested_from_ms=0):
    """Return a log drawn by lot."""
    rows = drawn_rows(0, num_rows=num_rows, num_videos=NUM_VIDEOS)
    return trial_log(
        rows, num_videos=NUM_VIDEOS, histories=HISTORIES, tested_from_ms=tested_from_ms
    )


def stages(*, generation_ms=3_600_000, **changed):
    """Return a contender of both stages that has learned nothing."""
    config = dataclasses.replace(RANKER, **changed)
    retrieval = Learned(Learner(SMALL, seed=0), generation_ms=generation_ms)
    return TwoStage(retrieval, config, seed=0, num_candidates=NUM_CANDIDATES)


def taught(contender, log):
    """Let *contender* observe *log*, and return the cases of its last twenty rows."""
    contender.prepare(TrainingData(log.uploads, log.histories))
    people = People(log, WindowPolicy())
    met = [people.get_or_add(row) for row in range(len(log))]
    for start in range(0, len(met) - 20, 20):
        contender.observe([exposure for exposure, _ in met[start : start + 20]])
    return [case for _, case in met[-20:] if case is not None]


def unseen_order(score_N, case):
    """Return the columns that *case* has not been shown, best first."""
    order = np.argsort(-score_N, kind="stable").tolist()
    return [column for column in order if column not in set(case.exposed)]


def test_candidates_stand_above_all_others_and_the_others_keep_the_order_of_retrieval():
    """The set of the first videos is that of retrieval; only their order is another one."""
    contender = stages(retrieval_weight=0.0)
    cases = taught(contender, log_of())

    alone_BN, both_BN = contender.retrieval.score(cases), contender.score(cases)

    is_reordered = False
    for alone_N, both_N, case in zip(alone_BN, both_BN, cases, strict=True):
        alone, both = unseen_order(alone_N, case), unseen_order(both_N, case)
        assert set(both[:NUM_CANDIDATES]) == set(alone[:NUM_CANDIDATES])
        assert both[NUM_CANDIDATES:] == alone[NUM_CANDIDATES:]
        is_reordered |= both != alone
    assert is_reordered


def test_with_a_large_retrieval_weight_the_order_is_that_of_retrieval():
    """The similarity is in the score as in serving, with its sign and of the same video."""
    contender = stages(retrieval_weight=1e4)
    cases = taught(contender, log_of())

    alone_BN, both_BN = contender.retrieval.score(cases), contender.score(cases)

    for alone_N, both_N, case in zip(alone_BN, both_BN, cases, strict=True):
        assert unseen_order(both_N, case) == unseen_order(alone_N, case)


def test_a_case_with_fewer_unseen_videos_than_candidates_is_ranked():
    """Who has been shown almost everything has a short list."""
    contender = stages()
    (case, *_) = taught(contender, log_of())
    exposed = [column for column in range(NUM_VIDEOS) if column not in {case.label, 3}]

    score_BN = contender.score([case._replace(exposed=exposed)])

    assert np.isfinite(score_BN[0, [case.label, 3]]).all()
    assert not np.isnan(score_BN).any()


def test_retrieval_alone_has_the_ranks_that_it_has_without_a_ranker():
    """It is scored before both stages learn, from the same batches."""
    log = log_of(tested_from_ms=600_000)
    both = stages(retrieval_weight=0.0)
    beside = [
        Entrant("alone", FirstStage(both.retrieval), pace=BY_EIGHT),
        Entrant("both", both, pace=BY_EIGHT),
    ]
    replay(log, beside, policy=WindowPolicy())
    only = Entrant("only", Learned(Learner(SMALL, seed=0)), pace=BY_EIGHT)
    replay(log, [only], policy=WindowPolicy())

    assert num_better(beside[0]) == num_better(only)
    assert num_better(beside[1]) != num_better(only)


def num_better(entrant):
    return np.concatenate([one.num_better_Q for one in entrant.ranks[LIVE]]).tolist()


def test_a_frozen_copy_stands_still_while_both_stages_go_on():
    """It scores the same cases alike, whatever has been learned since."""
    log = log_of()
    contender = stages()
    cases = taught(contender, log)
    contender.score(cases)
    frozen = contender.frozen()
    before_BN = frozen.score(cases)

    people = People(log, WindowPolicy())
    contender.observe([people.get_or_add(row)[0] for row in range(20)])

    assert np.array_equal(frozen.score(cases), before_BN)
    assert not np.array_equal(contender.score(cases), before_BN)


def test_a_window_holds_what_its_user_was_shown():
    """Serving folds impressions in, too, and the ranker reads them."""
    log = log_of(num_rows=40)
    people, shown = People(log, WindowPolicy()), {}
    for row in range(len(log)):
        exposure, _ = people.get_or_add(row)
        assert len(exposure.window.impressions) == min(24, shown.get(exposure.user_id, 0))
        assert exposure.surface == 1
        shown[exposure.user_id] = shown.get(exposure.user_id, 0) + 1


@pytest.mark.parametrize("weight", [0.0, 0.02])
def test_the_order_is_that_of_serving(tmp_path, weight):
    """The exported ranker, from a bundle, scores the same candidates alike.

    With the second weight ranker and retrieval have about the same say.
    """
    # of a generation that starts now, what is scored is what is exported below
    contender = stages(generation_ms=1, retrieval_weight=weight)
    cases = taught(contender, log_of())
    learner, ranker = contender.retrieval.learner, contender._ranker
    rows = np.arange(1, NUM_VIDEOS + 1)
    snapshot = learner.snapshot(ranker._popularity.features(rows))
    card = learner.card(bundle_id="b1", generation=0, offsets={}, metrics={})
    files = learner.bundle_files() | ranker_export.export(ranker.model, rows)
    bundle.write(f"file://{tmp_path}", card, files, snapshot)
    serving = load(bundle.load(f"file://{tmp_path}/b1"), collection_prefix="p")

    for case in cases:
        inputs = contender._inputs([case], contender._candidates(alone(contender, case), [case]))
        served = served_order(serving, learner, case, inputs.candidates.row_M)
        ranked = unseen_order(contender.score([case])[0], case)[:NUM_CANDIDATES]
        assert served == ranked


def alone(contender, case):
    """Return the scores of retrieval for one case."""
    return contender.retrieval.score([case])


def served_order(serving, learner, case, rows):
    """Return the columns of *rows*, best first, as a streams worker would order them."""
    window = with_context(case.window, surface_context(case.surface))
    items = serving.items
    video_ids = [learner.video_ids[row - 1] for row in rows.tolist()]
    watched = items.rows(window.video_ids)
    requests = request_columns([window], [case.event_time_ms], watched, serving.points.rows)
    vectors_BD = serving.encoder.encode([window], items, [window.newest_ms])
    rows_BC = items.rows(video_ids).astype(np.int64)[None]
    source_BC = np.full(rows_BC.shape, small_code("ann"))
    _, score_BC = serving.ranker.rank(
        ranking_inputs(requests, vectors_BD, rows_BC, source_BC, items)
    )
    order = np.argsort(-score_BC[0], kind="stable")
    return (rows[order] - 1).tolist()


def test_each_stage_loses_what_it_could_have_kept():
    """Worked by hand."""
    alone = {"recall_at_10": 0.2, "recall_at_100": 0.5, "recall_at_200": 0.7}
    both = {"recall_at_10": 0.3, "recall_at_100": 0.6}

    assert losses(alone, both) == pytest.approx(
        {
            "by_retrieval": 0.3,
            "by_order_at_10": 0.4,
            "by_order_of_retrieval_at_10": 0.5,
            "by_order_at_100": 0.1,
            "by_order_of_retrieval_at_100": 0.2,
        }
    )


@pytest.fixture(scope="module")
def kuairand(tmp_path_factory):
    """The folder of a small KuaiRand."""
    pytest.importorskip("pyarrow", reason="the evaluate extra is not installed")
    return write_kuairand(tmp_path_factory.mktemp("kuairand"), num_rows=60)


def run(*arguments):
    """Return what the command ended with."""
    return CliRunner().invoke(app, ["evaluate", "two-stage", *map(str, arguments)])


def test_json_has_the_figures_of_both_stages(kuairand):
    """With fewer than 200 videos retrieval finds everything."""
    found = run("--data", f"kuairand:{kuairand}", "--json")

    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout.splitlines()[-1])
    assert {"recall_at_10", "recall_at_100", "ndcg_at_10", "intervals", "per_day"} <= told.keys()
    assert told["retrieval_recall_at_200"] == 1.0
    assert told["losses"]["by_retrieval"] == 0.0
    assert told["retrieval"]["n"] == told["n"] > 0
    assert told["retrieval"]["mrr"] != told["mrr"]


def test_a_report_is_a_table_a_picture_and_the_figures(kuairand, tmp_path):
    """Retrieval alone has a line beside both stages."""
    pytest.importorskip("matplotlib", reason="the evaluate extra is not installed")
    found = run("--data", f"kuairand:{kuairand}", "--window", "tune", "--report", tmp_path)

    assert found.exit_code == 0, found.output
    page = (tmp_path / "two_stage.md").read_text()
    assert "| **youtube_dnn, expected_watch_time** |" in page
    assert "| youtube_dnn alone |" in page
    assert "lost by the order" in page
    assert page.splitlines()[0] in found.stdout
    assert (tmp_path / "two_stage.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "two_stage.json").read_text())["data"] == "kuairand"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "ml1m:x"), "known: kuairand:DIR"),
        (("--data", "kuairand:/nowhere"), "https://kuairand.com"),
        (("--data", "kuairand:/nowhere", "--model", "ease"), "unknown model 'ease'; known: "),
        (("--data", "kuairand:/nowhere", "--ranker", "lightgbm"), "unknown ranker 'lightgbm'"),
    ],
)
def test_an_error_is_reported_with_what_is_known(arguments, told):
    """One error of ours, which the command line prints as one line."""
    found = run(*arguments)

    assert isinstance(found.exception, DatasetError)
    assert told in str(found.exception)
