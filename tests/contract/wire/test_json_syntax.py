"""One meaning or none: what a document must be beyond what the parser checks."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import DecodeError
from contract.wire import json_syntax
from contract.wire.decoding import decode
from contract.wire.events import Context, ItemVector, encode
from contract.wire.json_syntax import MAX_DEPTH
from contract.wire.topics import ITEM_VECTORS, TOPICS
from tests.support.builders import (
    T0,
    asking,
    deletion,
    event_id,
    item_vector,
    search,
    upload,
    watch,
)

IMPRESSIONS = {
    "event_id": event_id("shown"),
    "user_id": "u1",
    "event_time_ms": T0,
    "videos": [{"video_id": "v1", "position": 0}, {"video_id": "v2", "position": 1}],
}
RECOMMENDATION = {
    "recommendation_id": event_id("answer"),
    "user_id": "u1",
    "generated_at_ms": T0,
    "caused_by": [event_id("shown")],
    "bundle_id": None,
    "generation": 0,
    "arm": "default",
    "items": [{"video_id": "v1", "expected_watch_ms": 1.0, "score": 1.0, "source": "ann"}],
    "degraded": [],  # and no propensity: of two defaults that are written one is given
}
RANKING_LOG = {
    "recommendation_id": event_id("answer"),
    "user_id": "u1",
    "generated_at_ms": T0,
    "bundle_id": None,
    "generation": 0,
    "feature_version": 1,
    "video_ids": ["v1"],
    "context": "AACAPw==",
    "user_vector": "AACAPw==",
    "candidates": "AACAPw==",
    "next_offsets": {"watch-events": 7},
}
ANNOUNCEMENT = {
    "bundle_id": "b1",
    "generation": 1,
    "state": "offered",
    "url": "file:///b1",
    "manifest_sha256": "0" * 64,
    "announced_at_ms": T0,
    "metrics": {"recall": 0.5, "a:b": 1.0},
}
GOOD = {
    "watch-events": json.loads(encode(watch())),
    "search-events": json.loads(encode(search('a: "b"'))),
    "impressions": IMPRESSIONS,
    "recommendation-requests": json.loads(encode(asking(number=3, context=Context(device="tv")))),
    "video-uploads": json.loads(encode(upload())),
    "recommendations": RECOMMENDATION,
    "ranking-log": RANKING_LOG,
    "item-vectors": json.loads(encode(item_vector())),
    "model-bundles": ANNOUNCEMENT,
    "similar-videos": {
        "video_id": "v1",
        "videos": [{"video_id": "v2", "score": 0.5}],
        "updated_at_ms": T0,
    },
    "hottest-videos": {
        "list_name": "hottest:24h:all",
        "videos": [{"video_id": "v2", "num_watches": 3.5}],
        "updated_at_ms": T0,
    },
    "user-deletions": json.loads(encode(deletion())),
}
JSON_TOPICS = [topic for topic in TOPICS if topic.kind]
COUNTED = [topic for topic in JSON_TOPICS if topic.kind.__struct_config__.omit_defaults]


def reason(value):
    """Return the word that *value* is refused with, None when it is taken."""
    try:
        json_syntax.check_document(value)
    except DecodeError as error:
        return error.reason
    return None


def objects_in(document):
    """Yield *document* and the objects inside it."""
    if isinstance(document, dict):
        yield document
    inside = document.values() if isinstance(document, dict) else document
    for value in inside:
        if isinstance(value, dict | list):
            yield from objects_in(value)


def required_only(topic):
    """Return the good document of *topic* without what may be left out."""
    good = dict(GOOD[topic.name])
    required = {field.name for field in msgspec.structs.fields(topic.kind) if field.required}
    return {name: value for name, value in good.items() if name in required}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("select", [lambda topic: GOOD[topic.name], required_only])
@pytest.mark.parametrize("topic", JSON_TOPICS, ids=lambda topic: topic.name)
def test_a_key_given_twice_is_found_in_every_struct_and_at_every_depth(topic, select, indent):
    """Whichever fields are there: a default left out must not make room for a repeated key.

    The count of colons stands for the count of keys only while the encoder leaves out what was
    not given; a new struct or default that breaks this fails here.
    """
    good = select(topic)
    key = good[topic.key_field].encode()
    for number, inner in enumerate(objects_in(good)):
        for name in inner:
            marked = json.loads(json.dumps(good))
            [*objects_in(marked)][number]["@"] = 0
            twice = f'"{name}": {json.dumps(inner[name])}'
            value = json.dumps(marked, indent=indent).replace('"@": 0', twice).encode()
            with pytest.raises(DecodeError, match="duplicate_key"):
                decode(topic, topic.kind, key, value)
    assert decode(topic, topic.kind, key, json.dumps(good, indent=indent).encode())


@pytest.mark.parametrize("topic", COUNTED, ids=lambda topic: topic.name)
def test_compact_json_of_known_fields_skips_the_full_check(topic, monkeypatch):
    """Also with blanks and in another order."""
    good = GOOD[topic.name]
    monkeypatch.setattr(json_syntax, "check_document", None)
    unescaped = json.dumps(dict(reversed(good.items()))).replace('\\"', "'")

    assert decode(topic, topic.kind, good[topic.key_field].encode(), unescaped.encode())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside),
    max_leaves=12,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_whatever_is_written_once_is_taken(document, is_ascii, indent):
    """Colons, quotes, brackets and escapes in texts and names are no structure."""
    value = json.dumps(document, ensure_ascii=is_ascii, indent=indent).encode()

    assert reason(value) is None


@given(VALUES, st.text(max_size=3), st.booleans())
def test_whatever_is_written_twice_is_not(document, name, is_ascii):
    """However the name is escaped."""
    inner = json.dumps(document, ensure_ascii=is_ascii)
    key = json.dumps(name, ensure_ascii=is_ascii)
    escaped = '"' + "".join(f"\\u{ord(c):04x}" for c in name if ord(c) < 0x10000) + '"'
    escaped = escaped if json.loads(escaped) == name else key

    assert reason(f"[{{{key}:{inner},{escaped}:1}}]".encode()) == "duplicate_key"


@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_the_greatest_depth_is_taken_and_one_level_more_is_not(pair):
    """Counted over objects and arrays together, whatever hides in strings."""
    opening, closing = pair
    width = opening.count("[") + opening.count("{")
    times = MAX_DEPTH // width
    text = '"]]]}}}[[[\\""'

    assert reason((opening * times + text + closing * times).encode()) is None
    assert reason(("[" + opening * times + text + closing * times + "]").encode()) == "depth"


@given(st.binary(max_size=60) | st.text('[]{}":,\\u0d8 1tn', max_size=40).map(str.encode))
def test_any_bytes_decode_as_json_or_raise_a_decode_error(value):
    """For two parsers alike."""
    if reason(value) is None:
        assert json.loads(value.decode()) == pytest.approx(msgspec.json.decode(value), nan_ok=True)


@pytest.mark.parametrize("text", ['{"a": 1}', ' [\n{"é": "ü"}]', '{"Ж": "Ж"}'])
@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("unit", ["utf-16", "utf-32"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_in_another_encoding_has_the_reason_encoding(text, order, unit, mark):
    """With its byte order mark or without, whatever letters it has."""
    assert reason((mark + text).encode(f"{unit}-{order}")) == "encoding"


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xfe",
        b"\xff\xfe\x00\x00",
        b"\xff\xfeh\x00i\x00",
        b"\x00\x01\x02\x03",
        b'\x00\x00\x00\x00\x07{"a":1}',  # as a schema registry has it
        b"\x80\x81",
        "hi".encode("utf-16"),
    ],
)
def test_bytes_that_are_no_document_in_any_encoding_are_no_json(value):
    """To change the encoding would not help their sender."""
    assert reason(value) == "json"


@pytest.mark.parametrize("value", ['{"ü": 1}'.encode("latin-1"), b"\xef\xbb\xbf{}"])
def test_latin_1_and_a_byte_order_mark_have_the_reason_encoding(value):
    assert reason(value) == "encoding"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e309"])
def test_nan_and_infinity_are_rejected_in_known_and_unknown_fields(number):
    """Nothing infinite comes into a vector by this door."""
    good = json.dumps(GOOD["item-vectors"])

    for value in (good.replace("1.0", number, 1), good[:-1] + f', "x": {number}}}'):
        with pytest.raises(DecodeError, match=r"^(json|range): "):
            decode(ITEM_VECTORS, ItemVector, b"v1", value.encode())
