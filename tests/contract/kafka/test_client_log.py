"""What Kafka's clients say: facts of the log, and not many of them."""

import logging

from confluent_kafka import Producer
from structlog.testing import capture_logs

from contract.kafka.client import producer_config
from contract.kafka.client_log import EVERY_S, ClientLog, RepeatFilter
from contract.process.settings import KafkaSettings

FORM = "%s [%s] %s"


def test_one_line_of_a_kind_is_logged_in_a_while_and_the_others_are_counted():
    now_s = [0.0]
    said = ClientLog(monotonic=lambda: now_s[0])
    with capture_logs() as logs:
        for _ in range(100):
            said.log(logging.ERROR, FORM, "FAIL", "rdkafka#consumer-1", "[thrd:x]: refused")
        said.log(logging.WARNING, FORM, "CONFWARN", "rdkafka#consumer-1", "unused")
        now_s[0] += EVERY_S
        said.log(logging.ERROR, FORM, "FAIL", "rdkafka#consumer-1", "[thrd:x]: refused")

    told = [(one["kind"], one["log_level"], one["text"], one["left_out"]) for one in logs]
    assert told == [
        ("FAIL", "error", "refused", 0),
        ("CONFWARN", "warning", "unused", 0),
        ("FAIL", "error", "refused", 99),
    ]


def test_the_newest_error_is_kept_for_a_later_message():
    said = ClientLog(is_silent=True)
    with capture_logs() as logs:
        said.log(logging.ERROR, FORM, "FAIL", "rdkafka#producer-1", "[thrd:x]: refused")
        said.log(logging.INFO, FORM, "TERM", "rdkafka#producer-1", "[thrd:x]: ended")

    assert said.last_error == "refused"
    assert logs == []


def test_a_client_that_cannot_connect_writes_nothing_itself(capfd):
    """Not a line `%3|...|FAIL|...`, neither while it lives nor at its end."""
    producer = Producer(producer_config(KafkaSettings(bootstrap_servers="127.0.0.1:1")))
    with capture_logs():
        producer.poll(0.5)
        producer.flush(0.2)
        del producer

    assert capfd.readouterr().err == ""


def test_a_logger_repeats_a_message_only_after_an_interval(monkeypatch):
    """Two that differ only by a number in them are the same; what was left out is counted."""
    now_s = [0.0]
    logger = logging.getLogger("tests.repeats")
    repeats = RepeatFilter(monotonic=lambda: now_s[0])
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    monkeypatch.setattr(logger, "disabled", False)
    told = []
    heard = logging.Handler()
    heard.emit = lambda record: told.append(record.getMessage())
    logger.addHandler(heard)
    logger.addFilter(repeats)
    try:
        for number in range(100):
            logger.error("no answer from %d", number)
        logger.error("another thing")
        now_s[0] += EVERY_S
        logger.error("no answer from %d", 100)
    finally:
        logger.removeFilter(repeats)
        logger.removeHandler(heard)

    assert told == [
        "no answer from 0",
        "another thing",
        "no answer from 100 (99 more left out)",
    ]
