"""Define an example of each message for the AsyncAPI document; a test decodes all of them."""

from base64 import b64encode
from struct import pack

import msgspec

from contract.points import point_id
from contract.wire import events
from contract.wire.topics import WATCH_EVENTS
from contract.wire.words import ANN, DEFAULT_ARM, TRENDING

_AT_MS = 1_764_000_000_000
_USER, _VIDEO, _BUNDLE = "auth0|6f2c", "-dQw4w9WgXc", "b1763999000000-g42"
_WATCH_ID = "01JDGXV3T4Q8Z6W5N2M7K9P0RS"
_RECOMMENDATION_ID = "0f8e3f0a-6d0b-4f5e-9d6c-2f4b8f1f7a11"

WINDOW_RECORD = bytes.fromhex("04b7205b30933f0eed9ec40090909090c4009090c000c4009090c400")
"""The history window of nobody, in the binary form of `models.history.codec`."""

EXAMPLES: tuple[events.Event, ...] = (
    events.Watch(
        event_id=_WATCH_ID,
        user_id=_USER,
        video_id=_VIDEO,
        event_time_ms=_AT_MS,
        watch_ms=41_500,
        duration_ms=212_000,
        context=events.Context(country="BR", language="pt-BR", device="tv", surface="home"),
        recommendation_id=_RECOMMENDATION_ID,
    ),
    events.Search(
        event_id="5e0b6f5e-93b5-4f0c-8a76-1d2f1c6a2b90",
        user_id=_USER,
        query="guitar chords",
        event_time_ms=_AT_MS + 60_000,
    ),
    events.Impressions(
        event_id="home-7731",
        user_id=_USER,
        event_time_ms=_AT_MS + 90_000,
        videos=[
            events.ImpressedVideo(video_id=_VIDEO, position=0),
            events.ImpressedVideo(video_id="v42", position=1),
        ],
        recommendation_id=_RECOMMENDATION_ID,
    ),
    events.RecommendationRequest(
        request_id="req-01JDGY0M5C",
        user_id=_USER,
        event_time_ms=_AT_MS + 150_000,
        context=events.Context(device="tv", surface="home"),
        number=12,
    ),
    events.VideoUpload(
        video_id=_VIDEO,
        title="Ten chords in ten minutes",
        channel_id="guitar/lessons",
        category="music",
        tags=["guitar", "beginner"],
        language="en",
        duration_ms=212_000,
        uploaded_at_ms=_AT_MS - 86_400_000,
    ),
    events.Recommendation(
        recommendation_id=_RECOMMENDATION_ID,
        user_id=_USER,
        generated_at_ms=_AT_MS + 8,
        caused_by=[_WATCH_ID],
        bundle_id=_BUNDLE,
        generation=42,
        arm=DEFAULT_ARM,
        items=[
            events.RecommendedVideo(
                video_id="v42", expected_watch_ms=18_211.0, score=2.31, source=ANN
            ),
            events.RecommendedVideo(
                video_id="v7", expected_watch_ms=9_050.5, score=1.04, source=TRENDING
            ),
        ],
    ),
    events.RankingLog(
        recommendation_id=_RECOMMENDATION_ID,
        user_id=_USER,
        generated_at_ms=_AT_MS + 8,
        bundle_id=_BUNDLE,
        generation=42,
        feature_version=1,
        video_ids=["v42", "v7"],
        context=pack("<2f", 21.5, 3.0),
        user_vector=pack("<2f", 0.6, 0.8),
        candidates=pack("<4f", 12.0, 0.25, 3.0, 0.5),
        history=pack("<q", point_id("v9")),
        history_completed=b"\x01",
        next_offsets={WATCH_EVENTS.name: 1_207},
    ),
    events.ItemVector(
        video_id=_VIDEO,
        generation=42,
        origin=events.Origin.CONTENT,
        input_vector=[0.12, -0.4],
        output_vector=[0.6, 0.8],
        features=events.RankingFeatures(duration_ms=212_000, uploaded_at_ms=_AT_MS - 86_400_000),
        updated_at_ms=_AT_MS - 86_399_000,
    ),
    events.BundleAnnouncement(
        bundle_id=_BUNDLE,
        generation=42,
        state=events.BundleState.OFFERED,
        url=f"file:///var/lib/nextwatch/bundles/{_BUNDLE}",
        manifest_sha256="0123456789abcdef" * 4,
        announced_at_ms=_AT_MS - 1_000_000,
        metrics={"recall_100": 0.557},
    ),
    events.SimilarVideos(
        video_id=_VIDEO,
        videos=[
            events.SimilarVideo(video_id="v42", score=0.0325),
            events.SimilarVideo(video_id="v7", score=0.0164),
        ],
        updated_at_ms=_AT_MS - 3_600_000,
    ),
    events.HottestVideos(
        list_name="hottest:24h:country=BR",
        videos=[
            events.HotVideo(video_id="v42", num_watches=812.5),
            events.HotVideo(video_id=_VIDEO, num_watches=640.25),
        ],
        updated_at_ms=_AT_MS - 3_600_000,
    ),
    events.UserDeletion(
        user_id=_USER, requested_at_ms=_AT_MS + 120_000, erase_before_ms=_AT_MS + 120_000
    ),
)
"""What each struct of a topic may look like; the ids are none but examples."""


def payload_of(kind: type[events.Event] | None) -> object:
    """Return the example of *kind* as plain JSON; for None, a window record in base64."""
    if kind is None:
        return b64encode(WINDOW_RECORD).decode()
    example = next(one for one in EXAMPLES if type(one) is kind)
    return msgspec.json.decode(events.encode(example))


def dead_letter_example() -> dict[str, object]:
    """Return an example of a dead letter, its headers without the checksum."""
    payload = '{"event_id":"1","user_id":"u1","video_id":"v1","event_time_ms":1764000000000,"watch_ms":"9"}'
    headers = {
        "dlq.reason": "type:watch_ms",
        "dlq.topic": WATCH_EVENTS.name,
        "dlq.partition": "3",
        "dlq.offset": "41",
        "dlq.ts": str(_AT_MS + 5),
        "dlq.record_ts": str(_AT_MS),
        "dlq.app": "nextwatch-streams",
        "dlq.length": str(len(payload)),
    }
    return {"headers": headers, "payload": payload}
