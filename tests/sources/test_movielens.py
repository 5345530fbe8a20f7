"""MovieLens: a rating is a completed watch, a film comes before its first rating."""

from datetime import UTC, datetime

from contract.events import Watch
from models.examples import CompletionRule
from nextwatch.sources import movielens
from nextwatch.sources.timeline import lay_out
from tests.sources.logs import write_movielens


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


def test_title_year_and_genres_are_told_apart(tmp_path):
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
