"""Errors are problem+json that names field and bound, and repeats nothing of the sender's."""

import json

import pytest

from contract.wire.dead_letters import REASONS
from tests.support.web import watch

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

JSON = {"content-type": "application/json"}


def post(gateway, body, path="watch", **headers):
    """Post *body* as it is."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return gateway.client.post(f"/v1/events/{path}", content=content, headers=JSON | headers)


@pytest.mark.parametrize(
    ("changed", "field", "reason", "bound"),
    [
        ({"watch_ms": -1}, "watch_ms", "range", {"minimum": 0, "maximum": 86_400_000}),
        ({"watch_ms": "9"}, "watch_ms", "type", {"type": "integer"}),
        ({"video_id": "x" * 129}, "video_id", "bad_id", {"maxLength": 128}),
        ({"event_time_ms": 1_764_000_000}, "event_time_ms", "ts_unit", {"minimum": 10**11}),
        ({"event_time_ms": 99_999_999_999_999}, "event_time_ms", "ts_future", {}),
    ],
)
def test_the_field_and_its_bound_are_named(gateway, changed, field, reason, bound):
    answer = post(gateway, watch("u1") | changed)

    told = answer.json()
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (told["field"], told["reason"], told["status"]) == (field, reason, 422)
    assert told["type"] == f"urn:nextwatch:problem:{reason}"
    assert told["bound"].items() >= bound.items()


def test_a_field_in_a_list_is_named_by_its_path(gateway):
    event = {key: value for key, value in watch("u1").items() if key in ("event_id", "user_id")}
    shown = {"event_time_ms": 1_764_000_000_000, "videos": [{"video_id": "v", "position": 1_000}]}

    told = post(gateway, event | shown, "impressions").json()

    assert (told["field"], told["bound"]["maximum"]) == ("videos.position", 999)


def test_a_missing_field_is_named(gateway):
    event = watch("u1")
    del event["video_id"]

    told = post(gateway, event).json()

    assert (told["field"], told["reason"]) == ("video_id", "missing")
    assert told["reason"] in REASONS


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]{}", b'{"a":1,"a":2}', b"\xff\xfe{}", b"[" * 50 + b"]" * 50]
)
def test_what_is_no_json_document_is_a_bad_request(gateway, body):
    assert post(gateway, body).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json; Charset=utf-16; profile=a"},
        {"content-encoding": "gzip"},
    ],
)
def test_only_json_in_utf_8_is_read(gateway, headers):
    """A page of another site can send anything else without asking first."""
    assert post(gateway, watch("u1"), **headers).status_code == 415


@pytest.mark.parametrize(
    "media_type",
    [
        "Application/JSON",
        'application/json ; charset="UTF-8"',
        "application/json;charset=utf-8;profile=a",
        "application/json; profile=a; Charset=utf8",
    ],
)
def test_json_may_have_parameters_of_its_media_type(gateway, media_type):
    """Their names are in any case, and in any order."""
    assert post(gateway, watch("u1"), **{"content-type": media_type}).status_code == 202


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/users/%00/recommendations", "user_id"),
        ("/v1/users/%FF/recommendations", "user_id"),
        (f"/v1/users/{'x' * 129}/recommendations", "user_id"),
        ("/v1/users/u/recommendations?wait_ms=-1", "wait_ms"),
        ("/v1/users/u/recommendations?wait_ms=1e3", "wait_ms"),
        ("/v1/users/u/recommendations?event_id=", "event_id"),
        ("/v1/users/u/recommendations?event_id=00000000-0000-0000-0000-000000000000", "event_id"),
        ("/v1/videos/v/similar?number=201", "number"),
        ("/v1/hottest?window=2d", "window"),
        ("/v1/hottest?country=de", "country"),
        ("/v1/hottest?country=DE&category=music", "category"),
    ],
)
def test_a_parameter_out_of_bounds_is_named(gateway, path, field):
    answer = gateway.client.get(path)

    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert answer.json()["bound"]


def test_no_answer_and_no_log_repeats_what_was_sent(gateway):
    """Text of a sender may be meant for a browser or for a terminal."""
    canary = "<script>canary</script>"
    answers = [
        post(gateway, watch(canary + "\x1b[2J")),
        post(gateway, watch("u1") | {"watch_ms": canary}),
        post(gateway, canary.encode()),
        gateway.client.get(f"/v1/{canary}"),
        gateway.client.get("/v1/hottest", params={"window": canary}),
    ]

    assert [answer.status_code for answer in answers] == [422, 422, 400, 404, 422]
    assert not any("canary" in answer.text for answer in answers)
    assert "canary" not in gateway.log


@pytest.mark.parametrize(("method", "status"), [("PUT", 405), ("PATCH", 405), ("TRACE", 405)])
def test_other_methods_are_not_allowed(gateway, method, status):
    answer = gateway.client.request(method, "/v1/events/watch")

    assert answer.status_code == status
    assert "POST" in answer.headers["allow"]
