"""Define the operator's commands; `nextwatch.commands.cli` registers them.

What a command needs is imported when it runs: `--help` must not wait for Kafka.
"""

import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from nextwatch.operate.session import (
    kafka_settings,
    outbox_of,
    print_table,
    scan_of,
    to_json,
    usage_errors,
)

if TYPE_CHECKING:
    from nextwatch.operate.letters import Choice

dlq_app = typer.Typer(
    no_args_is_help=True,
    help="""Dead letters: messages that could not be taken, kept whole with their reason.

nextwatch dlq list, then nextwatch dlq show LETTER. A letter that would pass today can be sent again by nextwatch dlq
replay; for all others the sender has to be mended.""",
)

TopicName = Annotated[
    str | None, typer.Option("--topic", metavar="NAME", help="Only of this topic: watch-events.")
]
Reason = Annotated[
    str | None,
    typer.Option(metavar="WORD", help="Only with this reason: json, or type for type:*."),
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="2h", help="Only those refused since: 90s, 15m, 2h, 3d ago, or an ISO time in UTC."
    ),
]
LetterArgument = Annotated[
    str, typer.Argument(metavar="LETTER", help="TOPIC:PARTITION:OFFSET, as `list --each` names it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dlq_app.command("list")
def list_letters(
    *,
    topic: TopicName = None,
    reason: Reason = None,
    since: Since = None,
    each: Annotated[bool, typer.Option("--each", help="Name every letter.")] = False,
    as_json: Json = False,
) -> None:
    """Count the dead letters by topic and reason; with --each name them one by one.

    `pass today` are those that would be taken if they were replayed now; in JSON they are
    `passing`.

    Examples: nextwatch dlq list

    nextwatch dlq list --topic watch-events --since 2h --each

    nextwatch dlq list --json | jq '.[] | select(.passing > 0)'
    """
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.acls import letters_needs  # noqa: PLC0415
    from nextwatch.operate import listing  # noqa: PLC0415
    from nextwatch.operate.letters import letter_of  # noqa: PLC0415

    now_ms, kafka = system_clock(), kafka_settings()
    choice = _choice(topic, reason, since, now_ms)
    with scan_of(kafka, letters_needs(kafka.layout, is_replay=False)) as scan:
        letters = (
            letter for letter in map(letter_of, scan.read(choice.names)) if choice.selects(letter)
        )
        if each:
            num_shown = 0
            for num_shown, letter in enumerate(letters, 1):  # noqa: B007 - told after the loop
                typer.echo(
                    listing.as_json(letter, now_ms=now_ms) if as_json else listing.line(letter)
                )
            if not num_shown and not as_json:
                typer.echo(_nothing(choice))
            return
        kinds = listing.kinds_of(letters, now_ms=now_ms)
    if as_json:
        typer.echo(to_json(kinds))
    elif kinds:
        print_table(listing.table(kinds))
    else:
        typer.echo(_nothing(choice))


@dlq_app.command("show")
def show_letter(
    letter: LetterArgument,
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the bytes of the value to standard output.")
    ] = False,
) -> None:
    """Show one dead letter whole: headers, reason, today's verdict of the contract, payload.

    Control characters are escaped and binary is dumped, so that a hostile payload cannot play with
    the terminal.

    Examples: nextwatch dlq show watch-events.dlq:3:41

    nextwatch dlq show watch-events.dlq:3:41 --raw > letter.bin
    """
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.acls import letters_needs  # noqa: PLC0415
    from nextwatch.operate import letters, listing  # noqa: PLC0415

    with usage_errors():
        place = letters.place_of(letter)
    kafka = kafka_settings()
    with scan_of(kafka, letters_needs(kafka.layout, is_replay=False)) as scan:
        found = letters.fetched(place, scan.one)
    if raw:
        sys.stdout.buffer.write(found.record.value or b"")
        return
    for line in listing.whole(found, now_ms=system_clock()):
        typer.echo(line)


@dlq_app.command("replay")
def replay_letters(
    letters: Annotated[
        list[str] | None,
        typer.Argument(metavar="LETTER", help="These alone; all that are chosen otherwise."),
    ] = None,
    *,
    topic: TopicName = None,
    reason: Reason = None,
    since: Since = None,
    even_if_bad: Annotated[
        bool, typer.Option("--even-if-bad", help="Also those that would be refused again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Send dead letters to their source topics again, as their senders sent them.

    It says what it would do and asks. Repeats change nothing: events have ids. Letters stay on the
    dead-letter topic until its retention ends them. Exits with 1 when a letter that was named
    stays.

    Examples: nextwatch dlq replay --topic watch-events --reason missing --dry-run

    nextwatch dlq replay --since 2h --yes

    nextwatch dlq replay watch-events.dlq:3:41
    """
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.acls import letters_needs  # noqa: PLC0415
    from nextwatch.operate.letters import place_of  # noqa: PLC0415
    from nextwatch.operate.replay import Replay, ReplayPolicy  # noqa: PLC0415

    if letters and (topic or reason or since):
        raise typer.BadParameter(
            "name letters, or choose by --topic, --reason and --since; not both"
        )
    now_ms, kafka = system_clock(), kafka_settings()
    choice = _choice(topic, reason, since, now_ms)
    with usage_errors():
        places = [place_of(letter) for letter in letters or ()]
    replay = Replay(ReplayPolicy(now_ms, is_bad_wanted=even_if_bad), choice, places)
    needs = letters_needs(kafka.layout, is_replay=True)
    with scan_of(kafka, needs) as scan:
        plan = replay.plan(scan)
    if not plan.counts:
        typer.echo(_nothing(choice))
        return
    print_table(plan.table())
    if not plan.num_going:
        typer.echo("there is nothing to replay")
    elif dry_run:
        typer.echo(f"nothing was sent; {plan.num_going} letters would be")
    elif yes or _is_agreed(plan.num_going):
        with scan_of(kafka, needs) as scan:
            num_sent = replay.run(scan, outbox_of(kafka), kafka.layout)
        typer.echo(f"replayed {num_sent} letters")
    if letters and plan.num_staying:
        raise typer.Exit(1)


def erase(
    user: Annotated[
        str,
        typer.Argument(metavar="USER", help="The user's id; put -- before one that begins with -."),
    ],
    *,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Erase what happened up to then, an ISO time in UTC or epoch milliseconds; now"
            " when nothing is said.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="How long a worker may take.")
    ] = 30.0,
    state_dir: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Look into this directory of a worker or a trainer, too. May be given repeatedly.",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look; ask for nothing.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at the state only, not through all topics.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Erase a user everywhere, wait for the confirmation of a worker, and look for what is left.

    Exits with 0 when no state is left, 1 when something is that has to go, or nobody answered.
    Records on the topics go when their retention ends; they are counted and dated. Running it again
    is safe, and so is a user whom nobody knows.

    Examples: nextwatch erase u123

    nextwatch erase --check -- -u123

    nextwatch erase u123 --check --state-dir /var/lib/nextwatch/streams

    nextwatch erase u123 --before 2026-01-01 --json
    """
    from contract.process.clock import system_clock  # noqa: PLC0415
    from nextwatch.acls import erase_needs  # noqa: PLC0415
    from nextwatch.operate import erase as erasing  # noqa: PLC0415

    kafka, directories = kafka_settings(), state_dir or ()
    with usage_errors():
        deletion = erasing.deletion_of(user, before, now_ms=system_clock())
    with scan_of(kafka, erase_needs(kafka.layout)) as scan:
        if check:
            report = erasing.check(user, scan, kafka, state_dirs=directories, is_quick=quick)
        else:
            report = erasing.erased(
                deletion,
                scan,
                outbox_of(kafka),
                kafka,
                monotonic=monotonic,
                timeout_s=timeout,
                state_dirs=directories,
                is_quick=quick,
            )
    if as_json:
        typer.echo(to_json(report))
    else:
        if report.traces:
            print_table(erasing.table(report))
        typer.echo(erasing.conclusion(report, timeout_s=timeout))
    if not report.is_clean:
        raise typer.Exit(1)


def _choice(topic: str | None, reason: str | None, since: str | None, now_ms: int) -> "Choice":
    from nextwatch.operate.letters import DEAD_LETTERED, Choice, topic_called  # noqa: PLC0415
    from nextwatch.operate.when import ago  # noqa: PLC0415

    with usage_errors():
        return Choice(
            topics=tuple(DEAD_LETTERED.values()) if topic is None else (topic_called(topic),),
            reason=reason,
            since_ms=0 if since is None else ago(since, now_ms=now_ms),
        )


def _is_agreed(num_letters: int) -> bool:
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to ask: add --yes, or --dry-run")
    return typer.confirm(f"replay {num_letters} letters?")


def _nothing(choice: "Choice") -> str:
    return f"no dead letters {choice}".rstrip()
