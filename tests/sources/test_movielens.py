"""MovieLens: a rating is a completed watch, a film comes before its first rating."""

from datetime import UTC, datetime

import numpy as np
import pytest

from contract.errors import DatasetError
from contract.wire.events import Watch
from models.features.examples import CompletionRule
from nextwatch.datasets import movielens
from nextwatch.sources.timeline import lay_out
from tests.support.dataset_logs import write_dat_movielens, write_movielens, zipped


def second(date):
    """Return *date* in epoch seconds, as the log has times."""
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


def uploads_of(log):
    """Return the uploads of *log* by video id."""
    return {upload.video_id: upload for upload in log.uploads}


def test_a_rating_is_a_completed_watch(tmp_path):
    """Without an impression, since nobody knows what was shown."""
    directory = write_movielens(
        tmp_path, [(7, 1, second("1996-03-01"))], [(1, "Toy Story (1995)", "Comedy")]
    )
    (watched,) = movielens.read(directory).events(0)

    assert isinstance(watched, Watch)
    assert (watched.user_id, watched.video_id) == ("u7", "m1")
    assert watched.event_time_ms == second("1996-03-01") * 1000
    assert CompletionRule().is_completed(watched.watch_ms, watched.duration_ms)


def test_title_year_and_genres_are_parsed(tmp_path):
    """The first genre is the category; the year leaves the title and becomes a tag."""
    films = [
        (1, "Crossing, The (Überfahrt, Die) (1995)", "Adventure|Sci-Fi"),
        (2, "No Year Here", "(no genres listed)"),
    ]
    uploads = uploads_of(movielens.read(write_movielens(tmp_path, [(1, 1, 10**9)], films)))

    assert uploads["m1"].title == "Crossing, The (Überfahrt, Die)"
    assert uploads["m1"].category == "Adventure"
    assert uploads["m1"].tags == ["Adventure", "Sci-Fi", "year:1995"]
    assert (uploads["m2"].title, uploads["m2"].category, uploads["m2"].tags) == (
        "No Year Here",
        None,
        [],
    )


def test_every_film_is_there_before_its_first_rating(tmp_path):
    """Also the one that was rated before its year of release, and the one without a year."""
    ratings = [
        (1, 1, second("1996-01-29")),
        (1, 2, second("1999-06-01")),
        (2, 3, second("1999-12-31")),
        (2, 4, second("2000-01-02")),
    ]
    films = [(1, "Old (1950)", "War"), (2, "New (1999)", "War"), (3, "Early (2000)", "War")]
    log = movielens.read(write_movielens(tmp_path, ratings, [*films, (4, "Undated", "War")]))
    uploads = uploads_of(log)

    for index in range(len(log)):
        assert uploads[log.video_id(index)].uploaded_at_ms < log.time_ms[index]


def test_old_films_open_the_service_and_new_ones_come_in_their_year(tmp_path):
    """What was released by the first year of the log is the catalogue; the rest trickles in."""
    ratings = [(1, 1, second("1996-01-29")), (1, 2, second("2003-06-01"))]
    films = [(1, "Old (1950)", "War"), (2, "First Year (1996)", "War"), (3, "Later (2002)", "War")]
    timeline = lay_out(movielens.read(write_movielens(tmp_path, ratings, films)))

    assert {upload.video_id for upload in timeline.catalogue} == {"m1", "m2"}
    (later,) = timeline.uploads
    assert second("2002-01-01") <= later.uploaded_at_ms / 1000 < second("2003-01-01")


def test_damaged_rows_move_nothing_else(tmp_path):
    """A rating without a time opens no service in 1970; a film without an id is counted."""
    ratings = [(1, 1, second("1996-01-29")), (2, 1, "")]
    films = [(1, "Old (1950)", "War"), ("", "Lost (1950)", "War")]
    log = movielens.read(write_movielens(tmp_path, ratings, films))

    assert (len(log), log.skipped["row:bad_time"], log.skipped["upload:bad_id"]) == (1, 1, 1)
    (upload,) = log.uploads
    assert upload.uploaded_at_ms == second("1996-01-28") * 1000


FILMS = [(1, "Léon: The Professional (1994)", "Crime|Drama"), (2, "Old (1950)", "War")]
RATINGS = [(7, 1, second("2000-03-01")), (8, 2, second("2000-02-01"))]


def assert_same(log, other):
    """Two logs tell the same events and uploads."""
    assert log.uploads == other.uploads
    assert np.array_equal(log.user, other.user)
    assert [log.events(index) for index in range(len(log))] == [
        other.events(index) for index in range(len(other))
    ]


def test_the_files_of_movielens_1m_tell_the_same_as_the_newer_ones(tmp_path):
    """Parted by two colons, in Latin-1, without a header."""
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    new = movielens.read(write_movielens(tmp_path / "new", RATINGS, FILMS))
    old = movielens.read(write_dat_movielens(tmp_path / "old", RATINGS, FILMS))

    assert len(old) == 2
    assert_same(old, new)


@pytest.mark.parametrize(
    ("write", "within"), [(write_movielens, "ml-latest-small"), (write_dat_movielens, "ml-1m")]
)
def test_the_zip_of_the_site_is_read_where_it_lies(tmp_path, write, within):
    """Nobody has to unpack it."""
    (tmp_path / within).mkdir()
    folder = write(tmp_path / within, RATINGS, FILMS)
    archive = zipped(folder, tmp_path / f"{within}.zip", within=within)

    assert_same(movielens.read(archive), movielens.read(folder))


def test_a_folder_without_ratings_is_rejected_with_both_layouts(tmp_path):
    """The remedy names the files of either edition."""
    write_movielens(tmp_path, RATINGS, FILMS)
    (tmp_path / "ratings.csv.gz").unlink()

    with pytest.raises(DatasetError, match=r"holds no ratings\.csv.*ratings\.dat"):
        movielens.read(tmp_path)


def test_a_damaged_line_of_films_is_named(tmp_path):
    """With the file it is in."""
    write_dat_movielens(tmp_path, RATINGS, [(1, "Old (1950)", "War")])
    (tmp_path / "movies.dat").write_text("not a film\n")

    with pytest.raises(DatasetError, match=r"movies\.dat holds a line that is no film"):
        movielens.read(tmp_path)
