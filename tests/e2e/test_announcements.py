"""Real workers and what they are told of bundles and of the index: nothing of it ends them all."""

import os
import subprocess
import sys

import pytest

from benchmarks.stack.player import player_of
from benchmarks.stack.prefixed_stack import PrefixedStack
from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode
from contract.wire.events import BundleAnnouncement, BundleState, encode
from tests.support.builders import T0
from tests.support.bundles import offer_bundle
from tests.support.stacks import running_stack
from tests.support.stub_index import answering

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180), pytest.mark.long]


@pytest.fixture(scope="module")
def services():
    """A broker and an index; each test starts its own workers."""
    with running_stack("embedded", processes=()) as stack:
        yield stack


def announced(bundle_id, generation, url):
    """Return the word that there is a bundle, which there is not."""
    return BundleAnnouncement(
        bundle_id=bundle_id,
        generation=generation,
        state=BundleState.INDEXED,
        url=url,
        manifest_sha256="0" * 64,
        announced_at_ms=T0,
    )


def test_announcements_of_bundles_that_nobody_has_end_no_worker(services):
    """One of them ended every worker, and again after each restart; now the good one serves."""
    place = PrefixedStack(services)
    worker = place.worker()
    worker.wait_ready()
    with player_of(place) as player:
        for generation, url in enumerate(["nosuch://x", "s3://x/y", "file:///nowhere/b"], 100):
            bad = announced(f"bad{generation}", generation, url)
            player.produce("model-bundles", bad.bundle_id, encode(bad))
        player.flush()
        assert eventually(lambda: len(worker.logged("bundle_postponed")) >= 3, within_s=40)
        before = player.answer_to(player.watch("u1", "cooking0"), within_s=40)
        offer_bundle(place, player)
        assert eventually(lambda: worker.logged("bundle_in_service"), within_s=40)
        worker.child.kill()
        worker.child.start()
        after = player.answer_to(player.watch("u1", "cooking1"), within_s=40)

    assert before["degraded"] == ["no_bundle"]
    assert after["user_id"] == "u1"
    assert eventually(lambda: len(worker.logged("bundle_in_service")) == 2, within_s=40)
    assert not worker.logged("process_failed")


@pytest.mark.parametrize("program", ["streams", "index_sync"])
@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_missing_or_wrong_api_key_ends_each_process_before_its_work(services, program, key):
    """One line that names the setting and the URL, exit code 78."""
    place = PrefixedStack(services)
    with answering(key="right") as url:
        env = {**os.environ, **place.env, "NEXTWATCH_QDRANT_URL": url}
        env["NEXTWATCH_STREAMS_STATE_DIR"] = str(services.directory / place.prefix)
        if key:
            env["NEXTWATCH_QDRANT_API_KEY"] = key
        ended = subprocess.run(
            [sys.executable, "-m", program],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == ExitCode.MISCONFIGURED
    assert last.startswith(f"{program}: ")
    assert "NEXTWATCH_QDRANT_API_KEY" in last
    assert url in last
    assert "Traceback" not in ended.stderr
    assert "UserWarning" not in ended.stderr
