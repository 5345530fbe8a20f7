"""Erase one user: send the request, wait for its confirmation, and check the result.

The request lies on every partition: before misplaced events were refused, a producer with another
partitioner may have left a second window of the user where its key does not belong. The worker that
owns the user's own partition answers with a record without a value on `recommendations`: forget
what you have of this user. By then it has deleted the window from its store and the changelog and
left a seal, under a hash, that keeps late and repeated events out. Asking again changes nothing.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from confluent_kafka.admin import AdminClient
from rich.table import Table
from rich.text import Text

from contract.cluster.cluster import Cluster
from contract.kafka.client import client_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.kafka.records import Position, Received
from contract.process.settings import KafkaSettings
from contract.wire.decoding import is_id
from contract.wire.events import MAX_TIME_MS, MIN_TIME_MS, UserDeletion, encode
from contract.wire.identifiers import ID_RULE
from contract.wire.topics import RECOMMENDATIONS, USER_DELETIONS, WINDOWS, Layout
from nextwatch.operate import traces
from nextwatch.operate.scan import Scan
from nextwatch.operate.traces import Trace
from nextwatch.operate.when import moment, shown

_RETENTION = "retention.ms"


class ErasureReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an erasure or a check; *is_confirmed* is None if no request was sent."""

    user_id: str
    erase_before_ms: int | None
    is_confirmed: bool | None
    is_clean: bool
    traces: list[Trace]
    unsettled: list[str] = []
    """Partitions that end in an open transaction: what they hide is not counted."""


def deletion_of(user_id: str, before: str | None, *, now_ms: int) -> UserDeletion:
    """Return the request to erase what *user_id* did up to *before*, or up to now.

    Raises:
        ValueError: that is no id, no time, or a time to come.
    """
    before_ms = now_ms if before is None else moment(before)
    if before_ms > now_ms:
        raise ValueError(
            f"{shown(before_ms)} has not come yet: everything until then would be ignored"
        )
    if not is_id(user_id):
        raise ValueError(f"{user_id!r} is no user id: an id is {ID_RULE}")
    if not MIN_TIME_MS <= before_ms <= MAX_TIME_MS:
        raise ValueError(f"{before_ms} is no time: write epoch milliseconds, or an ISO time in UTC")
    return UserDeletion(
        user_id=user_id, requested_at_ms=now_ms, erase_before_ms=before_ms, everywhere=True
    )


def ask(
    deletion: UserDeletion, scan: Scan, outbox: Outbox, layout: Layout, *, timeout_s: float
) -> bool:
    """Send *deletion* to every partition; return whether the user's worker confirmed it in time.

    That is, whether it said so within *timeout_s*.

    Raises:
        BrokerUnavailable: the request was not acknowledged.
        ContractError: a topic does not exist.
    """
    key, name = deletion.user_id.encode(), layout.name(USER_DELETIONS)
    copies = [
        Outgoing(name, key, encode(deletion), partition=at.partition)
        for at in scan.partitions(USER_DELETIONS.name)
    ]

    def is_answer(record: Received) -> bool:
        return record.key == key and record.value is None

    with scan.from_now_on(RECOMMENDATIONS.name) as watcher:
        outbox.deliver(copies)
        return watcher.wait_for(is_answer, within_s=timeout_s)


def erased(
    deletion: UserDeletion,
    scan: Scan,
    outbox: Outbox,
    kafka: KafkaSettings,
    *,
    monotonic: Callable[[], float],
    timeout_s: float,
    state_dirs: Sequence[Path] = (),
    is_quick: bool = False,
) -> ErasureReport:
    """Do all of it: ask, wait for the worker and the changelog, and look for what is left.

    Raises:
        BrokerUnavailable: nobody answers, or the request was not acknowledged.
        ContractError: a topic does not exist.
        WindowError: a window record is damaged.
    """
    is_confirmed = ask(deletion, scan, outbox, kafka.layout, timeout_s=timeout_s)
    if is_confirmed:
        await_changelog(deletion, scan, monotonic=monotonic, within_s=timeout_s)
    return check(
        deletion.user_id,
        scan,
        kafka,
        state_dirs=state_dirs,
        erase_before_ms=deletion.erase_before_ms,
        is_confirmed=is_confirmed,
        is_quick=is_quick,
    )


def await_changelog(
    deletion: UserDeletion, scan: Scan, *, monotonic: Callable[[], float], within_s: float
) -> None:
    """Wait until the changelog can be read as erased, on every partition.

    The answer of the user's own worker may be heard before the others have done their part.
    """
    deadline_s = monotonic() + within_s
    while monotonic() < deadline_s:
        kept = traces.traces_on(deletion.user_id, scan.read([WINDOWS.name]))
        if not any(t.must_go for t in traces.in_changelog(kept, deletion.erase_before_ms)):
            return


def check(
    user_id: str,
    scan: Scan,
    kafka: KafkaSettings,
    *,
    state_dirs: Sequence[Path] = (),
    erase_before_ms: int | None = None,
    is_confirmed: bool | None = None,
    is_quick: bool = False,
) -> ErasureReport:
    """Look for traces of the user; without *erase_before_ms* its seal has the time.

    Raises:
        BrokerUnavailable: nobody answers.
        ContractError: a topic does not exist.
        WindowError: a window record is damaged.
    """
    kept = traces.traces_on(user_id, scan.read([WINDOWS.name]))
    before_ms = traces.sealed_before_ms(kept) if erase_before_ms is None else erase_before_ms
    unsettled = _places(scan.unsettled)
    found = traces.in_changelog(kept, before_ms)
    for directory in state_dirs:
        found += traces.on_disk(directory, user_id, before_ms)
    if not is_quick:
        names = traces.NAMING_USERS
        found += traces.in_topics(user_id, scan.read(names), retention_ms(kafka, names))
        unsettled += _places(scan.unsettled)
    return ErasureReport(
        user_id=user_id,
        erase_before_ms=before_ms,
        is_confirmed=is_confirmed,
        is_clean=is_confirmed is not False and not any(trace.must_go for trace in found),
        traces=found,
        unsettled=unsettled,
    )


def _places(unsettled: Mapping[Position, int]) -> list[str]:
    return [f"{at.topic}[{at.partition}]" for at in sorted(unsettled)]


def retention_ms(kafka: KafkaSettings, topics: Sequence[str]) -> dict[str, int | None]:
    """Return the retention of each of *topics*; None if the broker does not report it.

    Raises:
        BrokerUnavailable: nobody answers.
    """
    prefix = kafka.layout.prefix
    cluster = Cluster(AdminClient(client_config(kafka) | {"log_level": 0}))
    found = cluster.topics([prefix + topic for topic in topics])
    settings = {name.removeprefix(prefix): topic.settings or {} for name, topic in found.items()}
    told = {topic: settings.get(topic, {}).get(_RETENTION) for topic in topics}
    return {topic: None if value is None else int(value) for topic, value in told.items()}


def table(report: ErasureReport) -> Table:
    """Return the traces as a table, those that must go first."""
    drawn = Table("", "where", "what", "count", "", box=None, pad_edge=False)
    for trace in sorted(report.traces, key=lambda trace: not trace.must_go):
        state, style = ("MUST GO", "red") if trace.must_go else ("stays", "yellow")
        cells = (trace.where, trace.what, str(trace.count), trace.note)
        drawn.add_row(Text(state, style), *(Text(cell) for cell in cells))
    return drawn


def _check_command(user_id: str) -> str:
    user = shlex.quote(user_id)
    is_like_option = user_id.startswith("-")
    return (
        f"nextwatch erase --check -- {user}"
        if is_like_option
        else f"nextwatch erase {user} --check"
    )


def conclusion(report: ErasureReport, *, timeout_s: float) -> str:
    """Return the conclusion in one line, with the remedy if something is left."""
    if report.is_confirmed is False:
        return (
            f"no worker said within {timeout_s:g} s that it is done. The request is on "
            "user-deletions and will be met: see that a streams worker runs and has no lag, then "
            f"`{_check_command(report.user_id)}`"
        )
    if not report.is_clean:
        return "not clean: do what is said above, then look again with --check"
    if report.unsettled:
        return (
            f"nothing more to erase so far, but {', '.join(report.unsettled)} end in an open "
            "transaction, whose records cannot be read yet: the counts are not final, look again "
            f"when it is over by `{_check_command(report.user_id)}`"
        )
    if report.erase_before_ms is None:
        return "clean: there is no state of this user, and nobody asked to erase it"
    return (
        f"clean: no state from before {shown(report.erase_before_ms)}; sealed against late events"
    )
