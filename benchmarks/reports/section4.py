"""Reports on windows and signals that counted events instead of users."""

from collections import Counter

from benchmarks.reports.row import Row
from benchmarks.reports.stage import Seen, Stage
from benchmarks.stack.bundle_in_service import put_in_service
from benchmarks.stack.prefixed_stack import StackProcess
from benchmarks.stack.waiting import eventually

NUM_POPULAR = 40
NUM_WATCHED = 20
NUM_LISTS = 12
NUM_SHOWN = 12
MOST_IN_ALL = 3
CATALOGUE = 10
FAST_PATH_S = 30.0
TRAINER = {
    "NEXTWATCH_TRAINER_PUBLISH_EVERY_S": "4",
    "NEXTWATCH_TRAINER_CHECKPOINT_EVERY_S": "2",
    "NEXTWATCH_TRAINER_CATALOGUE_WAIT_S": "1",
    "NEXTWATCH_TRAINER_BATCH_WAIT_MS": "100",
}


def repeats(stage: Stage) -> Seen:
    """20 videos watched, then one short video 50 times."""
    stage.streams()
    _make_popular(stage, users=3)
    watched = [f"v{n}" for n in range(NUM_WATCHED)]
    sent = {stage.player.watch("fan", video) for video in watched}
    sent |= {
        stage.player.watch("fan", "short", watch_ms=5_000, duration_ms=5_000) for _ in range(50)
    }
    stage.num_answered(sent)
    listed = stage.list_of("fan")
    num_seen = len({*watched, "short"} & {*listed})
    return Seen(
        bool(listed) and not num_seen, f"{num_seen} of {len(listed)} recommended were watched"
    )


def one_account(stage: Stage) -> Seen:
    """100 finished plays of one account at once, and 400 plays of 0 ms."""
    stage.streams()
    _make_popular(stage, users=5)
    sent = {stage.player.watch("bot", "pushed") for _ in range(100)}
    sent |= {stage.player.watch(f"bot{n % 4}", "unwatched", watch_ms=0) for n in range(400)}
    stage.num_answered(sent)
    listed = stage.list_of("stranger")
    rank = listed.index("pushed") + 1 if "pushed" in listed else None
    is_listed = "unwatched" in listed
    text = f"rank of the pushed video {rank}, video played for 0 ms recommended: {is_listed}"
    return Seen(bool(listed) and rank is None and not is_listed, text)


def shown_in_vain(stage: Stage) -> Seen:
    """Twelve lists in a row are shown to a user who watches nothing."""
    put_in_service(stage.place)
    stage.streams()
    _await_bundle(stage)
    counts: Counter[str] = Counter()
    for _ in range(NUM_LISTS):
        first = stage.list_of("idler")[:NUM_SHOWN]
        counts.update(first)
        stage.player.show("idler", first)
        stage.player.flush()
    num_in_all = sum(count == NUM_LISTS for count in counts.values())
    text = (
        f"{num_in_all} videos among the first {NUM_SHOWN} of all {NUM_LISTS} lists, {len(counts)} "
        "different ones"
    )
    return Seen(len(counts) > NUM_SHOWN and num_in_all <= MOST_IN_ALL, text)


def nothing_to_recommend(stage: Stage) -> Seen:
    """A user who has watched all there is; then everything is taken down."""
    put_in_service(stage.place, num_videos=CATALOGUE)
    stage.process("index_sync")
    stage.streams()
    _await_bundle(stage)
    videos = [f"v{n}" for n in range(CATALOGUE)]
    for video in videos:
        stage.num_answered({stage.player.watch("fan", video)})
    full = stage.answer("fan")
    again = [item["video_id"] for item in full["items"]]
    sources = {item["source"] for item in full["items"]}
    for video in videos:
        stage.player.produce("video-uploads", video, None)
    stage.player.flush()
    eventually(lambda: not stage.list_of("anybody"), within_s=40, every_s=0.5)
    empty = stage.answer("anybody")
    is_in_order = again == videos[: len(again)]
    text = (
        f"all seen: {full['degraded']}, {len(again)} videos again, marked {sorted(sources)}, oldest "
        f"first: {is_in_order}; nothing left: {len(empty['items'])} videos, {empty['degraded']}"
    )
    is_told = "all_seen" in full["degraded"] and "catalogue_empty" in empty["degraded"]
    return Seen(is_told and sources == {"seen_again"} and is_in_order, text)


def watches_before_uploads(stage: Stage) -> Seen:
    """Histories come before the catalogue: 200 watches, then the 20 videos."""
    trainer = stage.process("trainer", TRAINER)
    stage.streams()
    videos = [f"v{n}" for n in range(20)]
    sent = {stage.player.watch(f"u{n % 40}", videos[n % 20]) for n in range(200)}
    stage.num_answered(sent)
    is_told = eventually(lambda: _has_warned_of(trainer, videos), within_s=40, every_s=0.5)
    for video in videos:
        stage.player.upload(video)
    stage.player.flush()

    def learned() -> float:
        told = [line["progressive_examples"] for line in trainer.logged("progress_made")]
        return float(max([*told, _num_learned(stage)]))

    count = eventually(learned, within_s=60, every_s=1)
    text = f"a warning names the videos: {is_told}, {count:g} examples learned after the uploads"
    return Seen(is_told and count > 0, text)


def _has_warned_of(trainer: StackProcess, videos: list[str]) -> bool:
    """Return whether a warning names some of *videos* and no others; it lists the first few."""
    warnings = [line for line in trainer.facts() if line.get("level") in ("warning", "error")]
    named = [{*line.get("videos", ())} for line in warnings]
    return any(each and each <= {*videos} for each in named)


def _num_learned(stage: Stage) -> float:
    """Return how many examples the newest bundle announced was made from."""
    counts = [
        announced.get("metrics", {}).get("progressive_examples", 0)
        for announced in stage.announcements()
    ]
    return float(max(counts, default=0))


def uploaded_again(stage: Stage) -> Seen:
    """A trained video is uploaded with another title and category; nobody watches anything."""
    for number in range(30):
        stage.player.upload(f"v{number}")
    stage.player.flush()
    trainer, sync = stage.process("trainer", TRAINER), stage.process("index_sync")
    stage.streams()
    trainer.wait_ready(120)
    sync.wait_ready(120)
    sent = {stage.player.watch(f"u{n % 40}", f"v{n % 30}") for n in range(400)}
    stage.num_answered(sent)
    eventually(lambda: _num_learned(stage) >= 100, within_s=60, every_s=0.5)  # noqa: PLR2004
    _await_quiet(stage)
    num_before = len(_vectors_of(stage, b"v3"))
    bundles_before = len(stage.announcements())
    stage.player.upload("v3", category="opera", title="a night at the opera")
    stage.player.flush()
    num_after = eventually(
        lambda: len(_vectors_of(stage, b"v3")) - num_before, within_s=FAST_PATH_S, every_s=0.2
    )
    num_bundles = len(stage.announcements()) - bundles_before
    text = f"{num_after} new vectors of the video, {num_bundles} announcements of bundles meanwhile"
    return Seen(num_after > 0, text)


def _await_quiet(stage: Stage) -> None:
    """Wait until nobody has published a vector for five seconds."""
    num_before = -1
    for _ in range(12):
        num_now = len(stage.player.poll("item-vectors", key="video"))
        if num_now == num_before:
            return
        num_before = num_now
        eventually(lambda: False, within_s=5)


def _vectors_of(stage: Stage, video_id: bytes) -> list[bytes | None]:
    records = stage.player.poll("item-vectors", key="video")
    return [message.value() for message in records if message.key() == video_id]


def searches_count_nothing(stage: Stage) -> Seen:
    """One user watches a video and searches 50 times; five others watch another one."""
    stage.streams()
    sent = {stage.player.watch("searcher", "once")}
    stage.num_answered(sent)
    for number in range(50):
        stage.num_answered({stage.player.search("searcher", f"soup {number}")})
    stage.num_answered({stage.player.watch(f"u{n}", "five-times") for n in range(5)})
    listed = stage.list_of("stranger")
    return Seen(listed[:2] == ["five-times", "once"], f"the list begins with {listed[:2]}")


def _make_popular(stage: Stage, *, users: int) -> None:
    """Have so many users watch each of the popular videos."""
    sent = {
        stage.player.watch(f"crowd{user}-{number // 10}", f"v{number}")
        for user in range(users)
        for number in range(NUM_POPULAR)
    }
    stage.num_answered(sent)


def _await_bundle(stage: Stage) -> None:
    def is_in_service() -> bool:
        answer = stage.answer("probe")
        return bool(answer["bundle_id"] and "index_away" not in answer["degraded"])

    assert eventually(is_in_service, within_s=60, every_s=0.5), "no bundle came into service"


ROWS = (
    Row("4.1", "50 repeats of one short video", repeats),
    Row("4.2", "one account plays a video 100 times", one_account),
    Row("4.3", "lists shown in vain", shown_in_vain),
    Row("4.4", "nothing to recommend", nothing_to_recommend),
    Row("4.5", "watches before their uploads", watches_before_uploads),
    Row("4.6", "a trained video is uploaded again", uploaded_again),
    Row("4.7", "searches after one watch", searches_count_nothing),
)
