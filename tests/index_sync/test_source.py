"""A source on a broker whose group coordinator is not elected yet."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from contract.process.settings import KafkaSettings
from contract.wire.topics import VIDEO_UPLOADS
from index_sync import source as source_module
from index_sync.source import Source


class FreshBroker:
    """A consumer whose every request to the coordinator fails at first."""

    def __init__(self, _config):
        self.refused = {"committed", "commit"}
        self.assigned = []
        self.topics = {"video-uploads": self}
        self.partitions = {0: None}
        self.error = None

    def list_topics(self, _name, timeout):
        return self

    def committed(self, places, timeout):
        self._refuse_once("committed")
        for place in places:
            place.offset = 7
        return places

    def commit(self, *, offsets, asynchronous):
        self._refuse_once("commit")
        return offsets

    def assign(self, places):
        self.assigned = places

    def _refuse_once(self, request):
        if request in self.refused:
            self.refused.discard(request)
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(source_module, "Consumer", FreshBroker)
    return Source(KafkaSettings(), VIDEO_UPLOADS)


def test_a_fresh_broker_is_asked_again(source):
    """Neither opening nor committing fails because the coordinator is not known yet."""
    source.open(from_beginning=False)
    assert source.committed == {0: 7}
    source.commit({0: 9})
    assert source.committed == {0: 9}
