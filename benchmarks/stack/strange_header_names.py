"""Produce records whose header names are any bytes, as clients in other languages can."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from contract.kafka.records import Headers


class StrangeName(str):
    """A header name; its lone surrogates go on the wire as the bytes that they stand for."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        """Return the bytes, whatever the encoding that is asked for."""
        return super().encode("utf-8", "surrogateescape")


class Record(NamedTuple):
    """A record to send; its timestamp is in milliseconds."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    ingested_at_ms: int


class Broker(Protocol):
    """Where the records go."""

    @property
    def bootstrap_servers(self) -> str:
        """Where the broker is."""
        ...


async def send(stack: Broker, case: Record, partition: int) -> int:
    """Send *case*; return the offset it got."""
    return await send_all(stack, [case], partition)


async def send_all(stack: Broker, cases: Sequence[Record], partition: int) -> int:
    """Send *cases*, all of one topic, in one batch; return the offset that the first one got."""
    builder: Any = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10**6,
    )
    for number, case in enumerate(cases):
        headers = [(StrangeName(name), value) for name, value in case.headers]
        builder.append(number, case.ingested_at_ms, case.key, case.value, headers)
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers) as producer:
        batch = producer.create_batch()
        batch._builder, batch._relative_offset = builder, len(cases)  # noqa: SLF001
        sent = await (await producer.send_batch(batch, cases[0].topic, partition=partition))
        return int(sent.offset)
