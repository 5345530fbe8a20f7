"""docker-compose.yml as it is shipped: every watch is answered, whatever happens to containers."""

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from contract.cluster.preflight import partition_counts
from contract.errors import BrokerUnavailable, ContractError
from contract.version import VERSION
from tests.containers.compose import WORKERS, Project, can_kill_from_outside, docker
from tests.containers.load import Load

KEPT = ("kafka", "bundles", "checkpoints")

kills = pytest.mark.skipif(
    not can_kill_from_outside(), reason="kill -9 needs root on the machine that runs the containers"
)


def test_a_watch_is_answered_through_the_published_port(project):
    with player_of(project) as player:
        player.upload("v1")
        event_id = player.watch("somebody", "v1")
        player.flush()

        assert player.answer_to(event_id, within_s=60)["user_id"] == "somebody"


def test_only_loopback_is_published(project):
    """A broker and an index without a password are nobody else's."""
    published = [
        port["URL"]
        for container in project.containers()
        for port in container["Publishers"]
        if port["PublishedPort"]
    ]

    assert published == ["127.0.0.1", "127.0.0.1"]


def test_no_container_has_or_gains_rights(project):
    for container in project.containers():
        host = project.inspect(container)["HostConfig"]
        assert host["CapDrop"] == ["ALL"], container["Name"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"], container["Name"]


def test_workers_run_without_root_and_cannot_write_beside_their_volumes(project):
    for name in WORKERS:
        (worker,) = project.containers(name)
        assert docker("exec", worker["ID"], "id", "-u") == "10001\n"
        told = docker("exec", worker["ID"], "sh", "-c", "touch /usr/here 2>&1; true")
        assert "Read-only file system" in told
        assert "CapEff:\t0000000000000000" in docker("exec", worker["ID"], "cat", "/proc/1/status")


@kills
def test_one_of_two_streams_workers_is_killed(project):
    project.up("--scale", "streams=2", "streams")
    try:
        with Load(project).during() as load:
            first, _second = project.containers("streams")
            before = project.inspect(first)
            project.kill_9(first)
            project.await_restart(first, before)
        project.wait_healthy()

        load.check()
        listed = docker("exec", first["ID"], "ls", "/state/streams").split()
        assert listed == ["worker-1", "worker-2"]
    finally:
        project.up("--scale", "streams=1", "streams")


@kills
@pytest.mark.parametrize("service", ["kafka", "index_sync", "trainer"])
def test_a_container_is_killed_and_started_again_by_the_engine(project, service):
    (container,) = project.containers(service)
    with Load(project).during() as load:
        before = project.inspect(container)
        project.kill_9(container)
        project.await_restart(container, before)
    project.wait_healthy()

    load.check()


def test_down_and_up_keep_every_record_and_every_window(project):
    with Load(project).during() as load:
        pass
    load.check()
    with player_of(project) as player:
        before = len(eventually(lambda: player.poll("watch-events")))
    project.compose("down")
    project.up()

    with player_of(project) as player:
        assert eventually(lambda: len(player.poll("watch-events")) >= before, within_s=60)
        after = player.watch("back-again", "v1")
        player.flush()
        assert player.answer_to(after, within_s=60)
    load.check()


def test_the_image_of_one_worker_is_replaced_under_load(project, images):
    """As an upgrade does: the new container takes over the state of the old one."""
    newer = images["NEXTWATCH_IMAGE"].replace(":1", ":2")
    docker("build", "--tag", newer, "-", stdin=f"FROM {images['NEXTWATCH_IMAGE']}\nLABEL newer=1\n")
    try:
        with Load(project).during() as load:
            project.env = images | {"NEXTWATCH_IMAGE": newer}
            project.up("--no-deps", "streams")
        (worker,) = project.containers("streams")
        assert worker["Image"] == newer

        load.check()
    finally:
        project.env = images
        project.up("--no-deps", "streams")
        docker("image", "rm", newer)


def test_a_stop_ends_every_container_with_0(project):
    project.compose("stop", "--timeout", "60")
    ended = {each["Name"]: each["ExitCode"] for each in project.containers()}
    project.compose("start")
    project.wait_healthy()

    assert set(ended.values()) == {0}, ended


def test_a_second_project_has_users_of_its_own(project, started):
    """Another checkout, or the same one under another name, on the same machine."""
    second = started("second", "streams")
    with player_of(project) as here, player_of(second) as there:
        ours, theirs = here.watch("somebody", "v1"), there.watch("somebody", "v2")
        here.flush()
        there.flush()

        assert here.answer_to(ours, within_s=60)
        assert there.answer_to(theirs, within_s=60)
        assert not any(theirs in answer["caused_by"] for answer in here.recommendations())


def test_a_broker_with_a_password_answers_those_who_have_it(started):
    """Inside and outside; the overlay sets it everywhere."""
    client = {
        "NEXTWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "NEXTWATCH_KAFKA_SASL_MECHANISM": "PLAIN",
        "NEXTWATCH_KAFKA_SASL_USERNAME": "nextwatch",
        "NEXTWATCH_KAFKA_SASL_PASSWORD": "a pass-word: 1%",
    }
    files = ("docker-compose.yml", "docker-compose.password.yml")
    locked = started("locked", "streams", files=files, client=client)
    with player_of(locked) as player:
        event_id = player.watch("somebody", "v1")
        player.flush()

        assert player.answer_to(event_id, within_s=60)
    for wrong in ({}, client | {"NEXTWATCH_KAFKA_SASL_PASSWORD": "another"}):
        locked.client = wrong
        with pytest.raises((ContractError, BrokerUnavailable)):
            partition_counts(locked.kafka)
    locked.client = client


@pytest.mark.parametrize(
    ("name", "given"), [("USERNAME", "me@example.org"), ("PASSWORD", 'a "word"'), ("PASSWORD", "ü")]
)
def test_what_the_broker_cannot_read_is_rejected_before_it_starts(images, run_name, name, given):
    """In one line; the broker itself would end with a traceback of its parser, again and again."""
    user = {
        "NEXTWATCH_KAFKA_SASL_USERNAME": "nextwatch",
        "NEXTWATCH_KAFKA_SASL_PASSWORD": "secret",
        f"NEXTWATCH_KAFKA_SASL_{name}": given,
    }
    files = ("docker-compose.yml", "docker-compose.password.yml")
    project = Project(f"{run_name}-refused", images | user, files)
    try:
        with pytest.raises(AssertionError, match=f"NEXTWATCH_KAFKA_SASL_{name}: wanted"):
            project.compose("run", "--rm", "--no-deps", "kafka")
    finally:
        project.down()


def test_the_image_holds_what_it_says_and_no_tool_to_build_with(images):
    image = images["NEXTWATCH_IMAGE"]
    labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)
    script = (
        "command -v gcc cc make; ls -A ~/.cache 2>/dev/null; cat /usr/share/nextwatch/sbom.cdx.json"
    )
    inside = docker("run", "--rm", "--network", "none", image, "sh", "-c", script)

    assert f'"org.opencontainers.image.version":"{VERSION}"' in labels
    assert "/usr/share/nextwatch/sbom.cdx.json" in labels
    assert inside.startswith("{")
    assert "pkg:pypi/faust-streaming@" in inside
    assert "pkg:pypi/torch@" not in inside


def test_what_was_backed_up_comes_back(images, started, tmp_path):
    """By the commands of docs/deploy.md: broker, bundles and checkpoints at one moment."""
    lost = started("backup")
    with Load(lost).during() as load:
        pass
    load.check()
    lost.compose("stop", "--timeout", "60")
    for volume in KEPT:
        in_volume(images, lost, volume, tmp_path, "tar -C /volume -cf /backup/{}.tar .")
    lost.down()
    lost.compose("create", "--no-build")
    for volume in KEPT:
        in_volume(images, lost, volume, tmp_path, "tar -C /volume -xpf /backup/{}.tar")
    lost.up()

    load.check()


def in_volume(images, project, volume, backup, command):
    """Run *command* as root with *volume* and the folder of the backup mounted."""
    mounts = ("--volume", f"{project.name}_{volume}:/volume", "--volume", f"{backup}:/backup")
    image = images["NEXTWATCH_IMAGE"]
    docker("run", "--rm", "--user", "0", *mounts, image, "sh", "-c", command.format(volume))
