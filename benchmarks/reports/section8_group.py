"""Reports on the consumer group: session timeout, static membership, other members."""

from confluent_kafka import Consumer

from benchmarks.reports.row import Row
from benchmarks.reports.section8 import NUM_USERS, groups_of, run_worker
from benchmarks.reports.stage import Seen, Stage, stop, text_of
from benchmarks.stack.waiting import eventually
from contract.kafka.client import consumer_config
from contract.process.exit_codes import ExitCode


def short_session_timeout(stage: Stage) -> Seen:
    """A session timeout of 3 s on a broker that takes 6 s and more."""
    own, _ = stage.on_cluster(settings={"group.min.session.timeout.ms": "6000"})
    own.use(NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS="3000")
    ended = run_worker(own)
    is_named = "NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS" in ended.text and "6000" in ended.text
    text = (
        f"exit code {ended.code} after {ended.after_s:.0f} s, names setting and bound: {is_named}"
    )
    return Seen(ended.code == ExitCode.MISCONFIGURED and is_named, text)


def one_instance_id(stage: Stage) -> Seen:
    """Two workers with one static instance id."""
    first = stage.streams(INSTANCE_ID="worker-1")
    stage.num_answered(stage.watches(NUM_USERS, "a"))
    second = stage.streams(waits=False, INSTANCE_ID="worker-1")
    both = (first, second)
    eventually(lambda: not all(each.child.is_running for each in both), within_s=90)
    codes = [each.child.exit_code for each in both]
    ended = [each for each in both if not each.child.is_running]
    is_named = any("NEXTWATCH_STREAMS_INSTANCE_ID" in text_of(each) for each in ended)
    answered = stage.num_answered(stage.watches(100, "b"), within_s=60)
    text = f"exit codes {codes}, names the setting: {is_named}, then {answered} of 100 answered"
    is_right = sorted(map(str, codes)) == [str(int(ExitCode.MISCONFIGURED)), "None"]
    return Seen(is_right and is_named and answered == 100, text)  # noqa: PLR2004


def stranger_in_the_group(stage: Stage) -> Seen:
    """Another program has joined the worker's consumer group."""
    worker = stage.streams()
    stage.num_answered(stage.watches(NUM_USERS, "a"))
    group = next(name for name in groups_of(stage) if name.endswith("nextwatch-streams"))
    stop(worker)
    config = consumer_config(stage.place.kafka, group_id=group) | {"client.id": "somebody-else"}
    stranger = Consumer(config)
    stage.callback(stranger.close)
    stranger.subscribe([f"{stage.place.prefix}watch-events"])

    def is_in_the_group() -> bool:
        stranger.poll(0.1)
        return bool(stranger.assignment())

    def is_over() -> bool:
        stranger.poll(0.1)
        return not worker.child.is_running

    eventually(is_in_the_group, within_s=20)
    worker.child.start()
    eventually(is_over, within_s=30)
    code, text = worker.child.exit_code, text_of(worker)
    is_named = group in text and "somebody-else" in text
    return Seen(
        code == ExitCode.MISCONFIGURED and is_named,
        f"exit code {code}, names group and stranger: {is_named}",
    )


ROWS = (
    Row("8.5", "a session timeout below the broker's", short_session_timeout),
    Row("8.8", "two workers with one instance id", one_instance_id),
    Row("8.15", "a stranger in the group", stranger_in_the_group),
)
