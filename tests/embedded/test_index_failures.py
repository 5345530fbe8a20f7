"""A full disk, and other failures of the index server, are answered and logged with reasons."""

import asyncio
import errno
import shutil
import subprocess
import sys
from types import SimpleNamespace

import httpx
import pytest
import structlog

from contract.errors import StorageFull
from contract.process.exit_codes import ExitCode, code_of
from nextwatch.embedded.index import index_space
from nextwatch.embedded.index.index_collections import CollectionStore
from nextwatch.embedded.index.index_failures import QUIET_S, Failures, refusal_of
from nextwatch.embedded.index.index_space import COLLECTION_BYTES, WRITE_BYTES
from nextwatch.embedded.index_server import build_app

EMPTY = {"vectors": {"size": 2, "distance": "Cosine"}}
POINTS = {"points": [{"id": 1, "vector": [0.0, 1.0], "payload": {}}]}
MANY_POINTS = {"points": [POINTS["points"][0] | {"id": id_} for id_ in range(200)]}


class Client:
    """Sends requests to an app of this process."""

    def __init__(self, app, collections=None):
        self._app = app
        self.collections = collections

    def put(self, path, *, json):
        return self.send("PUT", path, json)

    def post(self, path, *, json):
        return self.send("POST", path, json)

    def delete(self, path):
        return self.send("DELETE", path, None)

    def send(self, method, path, json):
        async def answer():
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://index") as client:
                return await client.request(method, path, json=json)

        return asyncio.run(answer())


@pytest.fixture
def disk(monkeypatch):
    """A disk with as much free space as the test says."""
    disk = SimpleNamespace(free=1 << 40)
    monkeypatch.setattr(index_space.shutil, "disk_usage", lambda _path: disk)
    return disk


@pytest.fixture
def client(tmp_path, disk):
    """A client of an index in this process, with an empty collection ``c``."""
    collections = CollectionStore(tmp_path)
    client = Client(build_app(collections), collections)
    assert client.put("/collections/c", json=EMPTY).status_code == 200
    yield client
    collections.close()


def reason(response):
    """Return why a request was refused."""
    return response.json()["status"]["error"]


def test_a_write_is_refused_while_there_is_still_space(client, disk):
    """The engine would die of SIGBUS; what is there can still be read and deleted."""
    assert client.put("/collections/c/points", json=POINTS).status_code == 200
    disk.free = WRITE_BYTES - 1
    with structlog.testing.capture_logs() as logs:
        refused = client.put("/collections/c/points", json=POINTS)

    assert refused.status_code == 507
    assert "No space left on device: 15 MB free" in reason(refused)
    assert [(entry["event"], entry["status"]) for entry in logs] == [("request_failed", 507)]
    assert logs[0]["reason"] == reason(refused)
    assert client.post("/collections/c/points/count", json={}).json()["result"]["count"] == 1
    assert client.delete("/collections/c").json()["result"]


def test_a_collection_is_refused_if_it_would_fill_the_disk(client, disk):
    """It takes much more than a write."""
    disk.free = COLLECTION_BYTES - 1
    refused = client.put("/collections/d", json=EMPTY)
    assert (refused.status_code, "No space left" in reason(refused)) == (507, True)
    disk.free = COLLECTION_BYTES
    assert client.put("/collections/d", json=EMPTY).status_code == 200


def test_a_collection_that_the_disk_has_no_room_to_open_ends_the_start(client, tmp_path, disk):
    """The engine would die of SIGBUS; once there is room it opens."""
    assert client.put("/collections/c/points", json=POINTS).status_code == 200
    disk.free = 1 << 20
    with pytest.raises(StorageFull) as full:
        CollectionStore(tmp_path)

    assert f"{tmp_path / 'c'}: No space left on device: 1 MB free, " in str(full.value)
    assert code_of(full.value) == ExitCode.STORAGE_FULL
    client.collections.close()
    disk.free = COLLECTION_BYTES
    CollectionStore(tmp_path).close()


def test_a_collection_stays_open_when_there_is_no_room_to_index_it(client, disk):
    """The engine closes it for the build, and would not open it again on a full disk."""
    assert client.put("/collections/c/points", json=MANY_POINTS).status_code == 200
    disk.free = WRITE_BYTES - 1
    wanted = {"optimizers_config": {"indexing_threshold": 1}}
    refused = client.send("PATCH", "/collections/c", wanted)

    assert (refused.status_code, "No space left" in reason(refused)) == (507, True)
    assert client.post("/collections/c/points/count", json={}).json()["result"]["count"] == 200


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MB; without the right to mount one the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:  # noqa: PLW1510
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_server_that_starts_on_a_full_disk_ends_with_74_and_one_line(small_disk):
    """As every other process does."""
    collections = CollectionStore(small_disk / "data")
    client = Client(build_app(collections))
    assert client.put("/collections/c", json=EMPTY).status_code == 200
    assert client.put("/collections/c/points", json=POINTS).status_code == 200
    collections.close()
    with (small_disk / "filler").open("wb") as filler:
        filler.write(bytes(shutil.disk_usage(small_disk).free))

    argv = [sys.executable, "-m", "nextwatch.embedded.index_server", "--port", "1"]
    ended = subprocess.run(
        [*argv, "--data", str(small_disk / "data")], capture_output=True, text=True, check=False
    )

    assert ended.returncode == ExitCode.STORAGE_FULL, ended.stderr
    assert ended.stderr.startswith(f"index: {small_disk / 'data' / 'c'}: No space left on device")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507),
        (OSError(errno.EIO, "Input/output error"), 500),
        (RuntimeError("why"), 500),
    ],
)
def test_an_unexpected_error_is_answered_with_its_reason(error, status):
    """Not by a closed connection or an empty page."""
    refused = refusal_of(error)
    assert refused.status == status
    assert str(error) in refused.message


def test_a_failure_that_repeats_is_counted_instead_of_logged():
    """Refused requests come again, twice a second."""
    now_s = [0.0]
    failures = Failures(lambda: now_s[0])
    with structlog.testing.capture_logs() as logs:
        for _ in range(10):
            failures.note("PUT", "/collections/c", 500, "why")
        failures.note("PUT", "/collections/d", 500, "why")
        failures.note("PUT", "/collections/c", 404, "not there")
        now_s[0] += QUIET_S
        failures.note("PUT", "/collections/c", 500, "why")
    assert [(entry["path"], entry["unlogged"]) for entry in logs] == [
        ("/collections/c", 0),
        ("/collections/d", 0),
        ("/collections/c", 9),
    ]
