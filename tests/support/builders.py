"""Build valid events: a test names by keyword what it is about, the rest has defaults."""

from uuid import NAMESPACE_OID, uuid5

from contract.wire.events import (
    Context,
    ImpressedVideo,
    Impressions,
    ItemVector,
    Origin,
    RankingFeatures,
    RecommendationRequest,
    Search,
    UserDeletion,
    VideoUpload,
    Watch,
)

T0 = 1_700_000_000_000
"""A time like any other; tests count milliseconds from here."""


def event_id(name: str) -> str:
    """Return a UUID that stands for *name*."""
    return str(uuid5(NAMESPACE_OID, name))


def watch(
    video_id="v1",
    *,
    user_id="u1",
    at_ms=0,
    name=None,
    watch_ms=20_000,
    duration_ms=30_000,
    context=None,
):
    """Return a watch *at_ms* after T0; its id follows from user, video and time, or *name*."""
    return Watch(
        event_id=event_id(name or f"{user_id}/{video_id}/{at_ms}"),
        user_id=user_id,
        video_id=video_id,
        event_time_ms=T0 + at_ms,
        watch_ms=watch_ms,
        duration_ms=duration_ms,
        context=context or Context(),
    )


def search(query="cats", *, user_id="u1", at_ms=0):
    """Return a search *at_ms* after T0."""
    return Search(
        event_id=event_id(f"{user_id}/{query}/{at_ms}"),
        user_id=user_id,
        query=query,
        event_time_ms=T0 + at_ms,
    )


def shown(*video_ids, user_id="u1", at_ms=0):
    """Return the impressions of *video_ids*, from the top, *at_ms* after T0."""
    return Impressions(
        event_id=event_id(f"{user_id}/shown/{video_ids}/{at_ms}"),
        user_id=user_id,
        event_time_ms=T0 + at_ms,
        videos=[ImpressedVideo(video_id=v, position=n) for n, v in enumerate(video_ids)],
    )


def asking(name="asking", *, user_id="u1", at_ms=0, number=None, context=None):
    """Return a request for a list *at_ms* after T0."""
    return RecommendationRequest(
        request_id=event_id(f"{user_id}/{name}"),
        user_id=user_id,
        event_time_ms=T0 + at_ms,
        number=number,
        context=context or Context(),
    )


def deletion(*, user_id="u1", at_ms=0, everywhere=False):
    """Return a request to erase everything up to *at_ms* after T0."""
    time_ms = T0 + at_ms
    return UserDeletion(
        user_id=user_id, requested_at_ms=time_ms, erase_before_ms=time_ms, everywhere=everywhere
    )


def upload(video_id="v1", *, at_ms=0, category="cooking", tags=("soup",), channel_id="c1"):
    """Return an upload *at_ms* after T0."""
    return VideoUpload(
        video_id=video_id,
        title=f"{category} {video_id}",
        channel_id=channel_id,
        category=category,
        tags=list(tags),
        duration_ms=30_000,
        uploaded_at_ms=T0 + at_ms,
    )


def item_vector(
    video_id="v1",
    vector=(1.0, 0.0),
    *,
    generation=1,
    popularity=0.0,
    completion_rate=0.0,
    origin=Origin.TRAINING,
):
    """Return the vectors of a video, input and output alike."""
    return ItemVector(
        video_id=video_id,
        generation=generation,
        origin=origin,
        input_vector=list(vector),
        output_vector=list(vector),
        features=RankingFeatures(
            popularity=popularity, completion_rate=completion_rate, duration_ms=30_000
        ),
        updated_at_ms=T0,
    )
