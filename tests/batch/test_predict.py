"""Predictions of given pairs: in their order, by the ranker that orders lists, from three forms."""

import pytest

from contract.errors import DatasetError
from contract.process.clock import ManualClock
from nextwatch.batch import predict as job
from nextwatch.batch.predict import Pair, pairs_in, predict
from nextwatch.batch.recommend import answers
from nextwatch.batch.served import from_bundle
from streams.settings import StreamsSettings
from tests.batch.test_recommend import USERS
from tests.support import bundles
from tests.support.builders import T0


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = tmp_path_factory.mktemp("b")
    url, _ = bundles.write(bundles.learner_of(bundles.catalogue()), root)
    return from_bundle(url, StreamsSettings())


def predicted(served, *pairs):
    given = iter([Pair(*pair) for pair in pairs])
    return [one for chunk in predict(served.serving, USERS, given) for one in chunk]


def test_predictions_come_in_the_order_of_the_pairs(served, monkeypatch):
    monkeypatch.setattr(job, "CHUNK_PAIRS", 2)
    pairs = [("u003", "chess1"), ("u001", "trains2"), ("u003", "cooking0")]

    found = predicted(served, *pairs)
    assert [(one.user_id, one.video_id) for one in found] == pairs


def test_the_score_of_a_pair_is_that_of_the_recommended_video(served):
    """Of a user without skips and impressions, whose list the rules leave as the ranker made it."""
    [made] = answers(
        served.recommender(num_recommended=20, clock=ManualClock(T0)),
        [("u003", USERS.windows["u003"])],
    )
    found = predicted(served, *(("u003", one.video_id) for one in made.items))

    assert [one.score for one in found] == pytest.approx(
        [one.score for one in made.items], rel=1e-4
    )


def test_a_video_that_the_bundle_does_not_have_has_no_numbers(served):
    [one] = predicted(served, ("u003", "gone"))

    assert (one.score, one.expected_watch_ms) == (None, None)


def test_a_user_who_is_not_known_is_predicted_by_an_empty_window(served):
    [one] = predicted(served, ("nobody", "chess1"))

    assert one.num_watches == 0
    assert one.score is not None


PAIRS = [Pair("u1", "v1"), Pair("u2", "v,2")]


def test_pairs_are_read_from_csv(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text('video_id,when,user_id\nv1,1,u1\n"v,2",2,u2\n')

    assert list(pairs_in(file)) == PAIRS


def test_pairs_are_read_from_json_lines(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"user_id":"u1","video_id":"v1"}\n{"video_id":"v,2","user_id":"u2","x":1}\n')

    assert list(pairs_in(file)) == PAIRS


def test_pairs_are_read_from_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"video_id": ["v1", "v,2"], "user_id": ["u1", "u2"]})
    parquet.write_table(table, tmp_path / "pairs.parquet")

    assert list(pairs_in(tmp_path / "pairs.parquet")) == PAIRS


def test_a_missing_id_is_that_of_nobody_in_parquet_as_in_csv(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"video_id": ["v1", "v2"], "user_id": ["u1", None]})
    parquet.write_table(table, tmp_path / "pairs.parquet")
    (tmp_path / "pairs.csv").write_text("video_id,user_id\nv1,u1\nv2\n")

    for name in ("pairs.parquet", "pairs.csv"):
        assert list(pairs_in(tmp_path / name)) == [Pair("u1", "v1"), Pair("", "v2")]


def test_ids_of_parquet_that_are_no_text_are_rejected(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"video_id": [["v1"]], "user_id": ["u1"]})
    parquet.write_table(table, tmp_path / "pairs.parquet")

    with pytest.raises(DatasetError, match="cannot be read"):
        list(pairs_in(tmp_path / "pairs.parquet"))


@pytest.mark.parametrize(
    "content", [b"user_id,video_id\nu1,\xff\n", b"user_id,video_id\nu1," + b"v" * 200_000]
)
def test_a_csv_file_that_cannot_be_read_is_rejected(tmp_path, content):
    """Not UTF-8, or a field without an end."""
    (tmp_path / "pairs.csv").write_bytes(content)

    with pytest.raises(DatasetError, match="cannot be read"):
        list(pairs_in(tmp_path / "pairs.csv"))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pairs.csv", "user,video_id\nu1,v1\n", "no column user_id"),
        ("pairs.jsonl", '{"user_id":"u1"}\n', "line 1"),
        ("pairs.txt", "", r"\.csv, \.jsonl, \.parquet"),
    ],
)
def test_a_file_in_another_form_is_rejected_with_what_is_wrong(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)

    with pytest.raises(DatasetError, match=expected):
        list(pairs_in(tmp_path / name))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no file .*pairs\.csv"):
        list(pairs_in(tmp_path / "pairs.csv"))
