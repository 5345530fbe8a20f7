"""A producer that writes header names of any bytes, as only clients in other languages do."""

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy


class StrangeName(str):
    """A header name; its lone surrogates go on the wire as the bytes that they stand for."""

    __slots__ = ()

    def encode(self, *_):
        return super().encode("utf-8", "surrogateescape")


async def send(stack, case, partition):
    """Send *case*; return the offset it got."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=10**6,
    )
    headers = [(StrangeName(name), value) for name, value in case.headers]
    builder.append(0, case.ingested_at_ms, case.key, case.value, headers)
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap_servers) as producer:
        batch = producer.create_batch()
        batch._builder, batch._relative_offset = builder, 1
        sent = await (await producer.send_batch(batch, case.topic, partition=partition))
        return sent.offset
