"""The outbox: everything that the trainer tells the world, acknowledged or raised."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from contract.dead_letters import Header
from contract.errors import BrokerUnavailable
from contract.kafka import ClientConfig, producer_config
from contract.settings import KafkaSettings

_LINGER_MS = 5.0


class Sending(Protocol):
    """What the trainer needs of an outbox."""

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
    ) -> None:
        """Hand a record over; *topic* is the full name."""
        ...

    def settle(self) -> None:
        """Return once all of them are acknowledged, or raise."""
        ...


def outbox_config(settings: KafkaSettings) -> ClientConfig:
    """Return the configuration of the outbox's producer."""
    return producer_config(settings, linger_ms=_LINGER_MS)


@dataclass(slots=True)
class Outbox:
    """A producer whose every delivery is accounted for when `settle` returns."""

    producer: Producer
    timeout_s: float = 30.0
    _errors: list[str] = field(default_factory=list)

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
    ) -> None:
        """Hand a record over; *topic* is the full name. Whether it arrived, `settle` tells.

        Raises:
            BrokerUnavailable: the producer refuses it.
        """
        given: dict[str, Any] = {"headers": list(headers)} if headers else {}
        while True:
            try:
                self.producer.produce(
                    topic, key=key, value=value, on_delivery=self._report(topic), **given
                )
            except BufferError:
                self.producer.poll(0.1)
            except KafkaException as error:
                raise BrokerUnavailable(f"{topic}: {error}") from error
            else:
                self.producer.poll(0)
                return

    def settle(self) -> None:
        """Wait until everything handed over is acknowledged.

        Raises:
            BrokerUnavailable: something was refused, or not acknowledged in time.
        """
        num_left = self.producer.flush(self.timeout_s)
        if num_left or self._errors:
            self.producer.purge()
            raise BrokerUnavailable(
                self._errors[0]
                if self._errors
                else f"{num_left} records unacknowledged after {self.timeout_s} s"
            )

    def _report(self, topic: str) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._errors.append(f"{topic}: {error.str()}")

        return delivered
