"""The page of a creator: uploads are timed, on a real index."""

import pytest

pytestmark = pytest.mark.stack


def upload(console, **fields):
    answer = console.client.post("/console/uploads", json={"title": "Boats"} | fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["video_id"]


def followed(console, video_id, field):
    """Return the upload once *field* of it is known."""
    with console.stream("/console/uploads") as events:
        for _name, data in events:
            for one in data["uploads"]:
                if one["video_id"] == video_id and one[field] is not None:
                    return one
    return None


def test_an_upload_is_recommended_and_the_time_of_it_is_told(console):
    video_id = upload(console, duration_ms=30_000)
    console.watch("creator-fan", video_id)
    console.watch("creator-other", "v1")

    told = followed(console, video_id, "recommended_ms")

    assert told["recommended_ms"] >= told["uploaded_ms"]
    assert told["recommended_to"]


def test_a_video_that_was_taken_down_has_its_time(console):
    video_id = upload(console)

    assert console.client.delete(f"/console/uploads/{video_id}").status_code == 202

    told = followed(console, video_id, "taken_down_ms")
    assert told["taken_down_ms"] >= told["uploaded_ms"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"title": "x", "duration_ms": -1}, "duration_ms"),
        ({"title": "x", "uploaded_at_ms": 1}, None),
    ],
)
def test_an_upload_that_breaks_a_bound_names_the_field(console, body, field):
    answer = console.client.post("/console/uploads", json=body)

    assert (answer.status_code == 202) == (field is None)
    assert answer.json().get("field") == field


def test_the_id_and_the_time_of_an_upload_are_not_taken_from_the_page(console):
    assert upload(console, video_id="v1") != "v1"
