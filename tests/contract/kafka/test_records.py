"""What Kafka says of a message, without a client's class."""

from contract.kafka.records import UNREADABLE, Received, received
from contract.wire.topics import Layout


class Message:
    """As confluent-kafka hands one over; *headers* may be an error that reading them raises."""

    def __init__(self, headers):
        self._headers = headers

    def topic(self):
        return "prod-watch-events"

    def partition(self):
        return 3

    def offset(self):
        return 41

    def key(self):
        return b"u1"

    def value(self):
        return b"{}"

    def timestamp(self):
        return 1, 1_700_000_000_000

    def headers(self):
        if isinstance(self._headers, Exception):
            raise self._headers
        return self._headers


def test_a_record_is_known_by_the_contracts_name_of_its_topic():
    """The prefix of the cluster ends here."""
    record = received(Message([("trace", b"1"), ("none", None)]), Layout(prefix="prod-"))

    headers = (("trace", b"1"), ("none", None))
    expected = Received("watch-events", 3, 41, b"u1", b"{}", 1_700_000_000_000, headers, 8)
    assert record == expected


def test_headers_that_the_client_cannot_read_end_no_process():
    """A name that is not UTF-8: confluent-kafka raises, and the record is judged all the same."""
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    assert received(Message(error), Layout()).headers == UNREADABLE
