"""What is read into the views, and what is passed over."""

from contract.kafka.records import Received
from contract.metrics.definitions import SKIPPED
from contract.process.settings import KafkaSettings
from contract.wire.events import HottestVideos, HotVideo, Recommendation, encode
from nextwatch.gateway.answers import Answers
from nextwatch.gateway.following import ViewReader
from nextwatch.gateway.lists import PublishedLists
from tests.support.builders import T0, event_id


class Views:
    """A reader that is given records instead of a broker's."""

    def __init__(self):
        self.answers = Answers(max_bytes=1 << 20)
        self.lists = PublishedLists(max_bytes=1 << 20)
        self.reader = ViewReader(
            KafkaSettings(), self.answers, self.lists, tail_records=1, on_failure=print
        )

    def take(self, topic, key, value):
        self.reader.take(Received(topic, 0, 0, key.encode(), value))


def recommendation(user_id):
    """Return a recommendation as it is on the wire."""
    return encode(
        Recommendation(
            recommendation_id=event_id(user_id),
            user_id=user_id,
            generated_at_ms=T0,
            caused_by=["e1"],
            bundle_id=None,
            generation=0,
            arm="default",
            items=[],
        )
    )


def test_what_breaks_the_contract_is_counted_and_passed_over():
    """Another program may write to the topic; a viewer gets nothing of that."""
    views = Views()
    views.take("recommendations", "u1", recommendation("u1"))
    for key, value in (("u1", b"{"), ("u1", recommendation("u2")), ("\x00", None)):
        views.take("recommendations", key, value)

    assert views.answers.latest("u1").value == recommendation("u1")
    assert views.answers.latest("u2") is None
    assert views.reader.counts["recommendations"] == 1
    assert {
        sample.labels: sample.value
        for sample in views.reader.samples()
        if sample.metric is SKIPPED and sample.value
    } == {
        ("recommendations", "json"): 1,
        ("recommendations", "key_mismatch"): 1,
        ("recommendations", "bad_id"): 1,
    }


def test_tombstones_remove_lists_and_users():
    views = Views()
    hot = [HotVideo(video_id="v1", num_watches=1.0)]
    name = "hottest:24h:all"
    hottest = encode(HottestVideos(list_name=name, videos=hot, updated_at_ms=T0))
    views.take("hottest-videos", name, hottest)
    views.take("recommendations", "u1", recommendation("u1"))
    assert views.lists.hottest(name).videos == hot

    views.take("hottest-videos", name, None)
    views.take("recommendations", "u1", None)

    assert views.lists.hottest(name) is None
    assert views.answers.latest("u1") is None
