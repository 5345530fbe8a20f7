"""The double of `contract.kafka.outbox.Outbox`; the suite of the outbox runs over both."""

from contract.errors import BrokerUnavailable, ContractError

MAX_BYTES = 1_000_000


class MemoryOutbox:
    """Acknowledges records when they are waited for, or nothing while `is_away`."""

    def __init__(self):
        self.ends = {}
        """By topic the offset of its last record."""
        self.is_away = False
        self._acknowledged = []
        self._queued = []
        self._failed = []

    @property
    def sent(self):
        """All records sent, in order, without those that failed."""
        return self._acknowledged + [one for pending in self._queued for one in pending.records]

    def to(self, topic):
        """Return what was sent to *topic*."""
        return [record for record in self.sent if record.topic == topic]

    def send(self, records):
        for record in records:
            if len(record.value or b"") > MAX_BYTES:
                raise ContractError(f"{record.topic}: too large: raise its max.message.bytes")
        pending = MemoryDelivery(list(records), self._answer)
        self._queued.append(pending)
        return pending

    def deliver(self, records):
        return self.send(records).wait()

    def flush(self):
        self._answer()
        failed, self._failed = self._failed, []
        if errors := [pending.error for pending in failed if not pending.is_reported]:
            raise errors[0]

    def on_acknowledged(self, records):
        """Do nothing; a subclass may."""

    def _answer(self):
        queued, self._queued = self._queued, []
        num_records = sum(len(pending.records) for pending in queued)
        if self.is_away:
            for pending in queued:
                pending.error = BrokerUnavailable(f"{num_records} records unacknowledged")
            self._failed += [pending for pending in queued if pending.records]
            return
        self.on_acknowledged([record for pending in queued for record in pending.records])
        for pending in queued:
            pending.offsets = [self._offset(record) for record in pending.records]
            self._acknowledged += pending.records

    def _offset(self, record):
        self.ends[record.topic] = self.ends.get(record.topic, -1) + 1
        return self.ends[record.topic]


class MemoryDelivery:
    """The `contract.kafka.outbox.PendingDelivery` of a `MemoryOutbox`."""

    def __init__(self, records, answer):
        self.records = records
        self.offsets = None
        self.error = None
        self.is_reported = False
        self._answer = answer

    def wait(self):
        self.is_reported = True
        if self.offsets is None and self.error is None:
            self._answer()
        if self.error is not None and self.records:
            raise self.error
        return self.offsets or []
