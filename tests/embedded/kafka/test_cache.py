"""The cache of jars: fetched once, verified, resumable, and safe for two at once."""

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from contract.errors import StackError, StorageFull
from nextwatch.embedded.kafka import cache
from nextwatch.embedded.kafka.artifacts import Artifact


def artifact(name, body):
    return Artifact("g", name, "1", len(body), hashlib.sha256(body).hexdigest())


@pytest.fixture
def offered(monkeypatch):
    """A repository of two jars; what is fetched from it is counted."""
    bodies = {"a": b"first", "b": b"second"}
    pins = tuple(artifact(name, body) for name, body in bodies.items())
    fetched = []

    def download(pin, staging):
        fetched.append(pin.name)
        path = staging / pin.file_name
        path.write_bytes(bodies[pin.name])
        return path

    monkeypatch.setattr(cache, "pinned", lambda: pins)
    monkeypatch.setattr(cache, "_download", download)
    return bodies, fetched


def test_existing_jars_are_not_fetched_again(offered, tmp_path):
    """The second start needs no network."""
    _, fetched = offered
    cache.fetched_jars(tmp_path)
    jars = cache.fetched_jars(tmp_path)

    assert sorted(fetched) == ["a", "b"]
    assert [jar.read_bytes() for jar in jars] == [b"first", b"second"]


def test_an_interrupted_fetch_goes_on_with_the_rest(offered, tmp_path):
    """Only the damaged or missing jar is fetched once more."""
    _, fetched = offered
    jars = cache.fetched_jars(tmp_path)
    jars[1].write_bytes(b"sec")
    fetched.clear()
    cache.fetched_jars(tmp_path)

    assert fetched == ["b"]
    assert jars[1].read_bytes() == b"second"


def test_a_jar_with_another_checksum_is_never_kept(offered, tmp_path):
    """Neither a bad mirror nor a cut connection gets onto the class path."""
    bodies, _ = offered
    bodies["b"] = b"forged"
    with pytest.raises(StackError, match="another checksum"):
        cache.fetched_jars(tmp_path)

    assert not list((tmp_path / "jars").glob("b-*.jar"))
    assert not list((tmp_path / "jars").glob(".fetch-*"))


def test_no_network_names_the_way_around(monkeypatch, offered, tmp_path):
    """The remedy is an unpacked distribution."""

    def refuse(pin, staging):
        raise ConnectionError("no route")

    monkeypatch.setattr(cache, "_download", refuse)
    with pytest.raises(StackError, match="NEXTWATCH_KAFKA_HOME"):
        cache.fetched_jars(tmp_path)


def test_a_connection_that_is_lost_is_tried_again(monkeypatch, offered, tmp_path):
    """One of the many jars is no reason to do without Kafka."""
    download, num_lost = cache._download, []

    def lose_first(pin, staging):
        if len(num_lost) < cache.DOWNLOAD_TRIES - 1:
            num_lost.append(pin)
            raise ConnectionError("reset by peer")
        return download(pin, staging)

    monkeypatch.setattr(cache, "_download", lose_first)

    assert len(cache.fetched_jars(tmp_path)) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_called_a_network_problem(monkeypatch, offered, tmp_path, number):
    """The remedy is room in the cache, or another cache."""

    def fill(pin, staging):
        raise OSError(number, os.strerror(number), staging / pin.file_name)

    monkeypatch.setattr(cache, "_download", fill)
    with pytest.raises(StorageFull, match=r"make room there, or .*XDG_CACHE_HOME") as full:
        cache.fetched_jars(tmp_path)

    assert str(full.value).startswith(f"{tmp_path}: No space left on device")
    assert "Maven" not in str(full.value)


def test_a_full_disk_is_recognised_by_the_words_of_a_program(tmp_path):
    """Kafka's own tool formats the template, and only says so."""
    with pytest.raises(StorageFull), cache.locked(tmp_path):
        raise StackError("java.io.IOException: No space left on device")


def test_two_that_start_at_once_fetch_once(offered, tmp_path):
    """The second one waits for the first one's lock and finds everything."""
    _, fetched = offered
    together = Barrier(2)

    def start(_):
        together.wait(5)
        return cache.fetched_jars(tmp_path)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, range(2))

    assert first == second
    assert sorted(fetched) == ["a", "b"]


def test_an_unwritable_cache_is_one_line_with_the_remedy(tmp_path):
    """A home that cannot be written is common in containers."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="XDG_CACHE_HOME"), cache.locked(tmp_path / "file" / "x"):
        pass


@pytest.fixture
def unwritable_home(monkeypatch, tmp_path):
    """A cache of the user that cannot be made, and a temporary directory of one's own."""
    cache._private_directory.cache_clear()
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: Path("/dev/null/x"))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    yield tmp_path
    cache._private_directory.cache_clear()


def test_a_complete_cache_is_used_where_nothing_can_be_written(offered, monkeypatch, tmp_path):
    """An image of a container brings it. What is prepared for starts goes to a place of its own."""
    _, fetched = offered
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    monkeypatch.setattr(cache.platformdirs, "user_cache_path", lambda *_, **__: home)
    brought = cache.fetched_jars(cache.cache_dir())
    fetched.clear()
    monkeypatch.setattr(cache, "_can_be_written", lambda _root: False)
    monkeypatch.setattr(cache, "_private_directory", lambda _root: elsewhere)

    folder = cache.cache_dir()

    assert folder.parent == elsewhere
    assert cache.fetched_jars(folder) == brought
    assert fetched == []
    assert not elsewhere.exists()


def test_without_a_writable_home_a_private_directory_takes_its_place(unwritable_home, capfd):
    """In containers and CI there is often no home; it is said once."""
    folder = cache.cache_dir()

    assert folder.parent == cache.cache_dir().parent
    assert folder.parent.parent == unwritable_home
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("/dev/null/x cannot be written: Kafka is kept in ")


def test_a_directory_that_others_can_write_is_not_used_as_cache(unwritable_home):
    """Somebody else could put a program into it."""
    (unwritable_home / f"nextwatch-cache-{os.getuid()}").mkdir()
    (unwritable_home / f"nextwatch-cache-{os.getuid()}").chmod(0o777)

    with pytest.raises(StackError, match="open to other users: set XDG_CACHE_HOME"):
        cache.cache_dir()
