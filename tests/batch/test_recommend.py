"""A list for every user: as streams makes it, once for each, and on again after a kill."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest

from contract.errors import ContractError
from contract.process.clock import ManualClock
from contract.wire.events import Recommendation
from models.history import codec
from models.history.history import EMPTY, WindowPolicy, fold
from nextwatch.batch import recommend as job
from nextwatch.batch.progress import ignore_progress
from nextwatch.batch.recommend import RecommendRun
from nextwatch.batch.served import from_bundle
from nextwatch.batch.users import StoredUsers
from streams.serving import generation
from streams.serving.candidates import CandidateSource
from streams.serving.recommend import Recommender
from streams.serving.requests import request_of
from streams.serving.trending import Trending
from streams.settings import StreamsSettings
from tests.batch.test_hottest import Known
from tests.support import bundles
from tests.support.builders import T0, shown, watch

NUM_USERS = 30
VIDEOS = [f"{taste}{n}" for taste in bundles.TASTES for n in range(5)]


def watches_of(user):
    return [
        watch(VIDEOS[(7 * user + 3 * n) % 20], user_id=f"u{user:03}", at_ms=1_000 * n + user)
        for n in range(1 + user % 6)
    ]


USERS = Known(*(one for user in range(NUM_USERS) for one in watches_of(user)))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A bundle of twenty videos."""
    return bundles.write(bundles.learner_of(bundles.catalogue()), tmp_path_factory.mktemp("b"))[0]


@pytest.fixture(scope="module")
def served(url):
    return from_bundle(url, StreamsSettings())


class World:
    """A run over USERS in chunks of seven, whose recommender may break."""

    def __init__(self, served, directory, *, bundle_id="b1", suffix=".jsonl"):
        self.served, self.out = served, directory / f"lists{suffix}"
        self.num_answered, self.room = 0, 1_000
        self.run = RecommendRun(
            users=USERS,
            make_recommender=lambda: SimpleNamespace(recommend=self._recommend),
            bundle_id=bundle_id,
            number=5,
            path=self.out,
            work_dir=directory / "work",
        )
        self._recommender = served.recommender(num_recommended=5, clock=ManualClock(T0))

    def _recommend(self, requests):
        if self.room == 0:
            raise BrokenPipeError("killed")
        self.room -= 1
        self.num_answered += len(requests)
        return self._recommender.recommend(requests)

    def go(self, **options):
        return self.run.run(ignore_progress, **options)

    def lists(self):
        lines = self.out.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Recommendation) for line in lines]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(job, "CHUNK_USERS", 7)


def online(url, settings, window, user_id, event):
    """Return what a worker with NEXTWATCH_STREAMS_SEARCH=memory answers to *event*."""
    from models.bundle import bundle as loaded  # noqa: PLC0415 - apart from the code under test

    serving = generation.load(loaded.load(url), collection_prefix="any")
    retrieval = CandidateSource(
        None,
        num_ranked=settings.num_candidates,
        num_trending=settings.num_trending,
        monotonic=lambda: 0.0,
        is_in_memory=True,
    )
    recommender = Recommender(
        generation.ActiveGeneration(serving),
        retrieval,
        Trending(),
        num_recommended=5,
        is_coalescing=True,
        clock=ManualClock(T0),
        skip_weight=settings.skip_weight,
    )
    [answer] = recommender.recommend([request_of(user_id, window, [event])])
    return answer


def test_a_list_has_the_videos_and_scores_that_streams_answers_with(served, url, tmp_path):
    """For the same window and generation, to the last digit that is sent but for rounding."""
    world = World(served, tmp_path)
    world.go()

    for made in world.lists()[::5]:
        user = int(made.user_id[1:])
        window = USERS.windows[made.user_id]
        answer = online(url, served.settings, window, made.user_id, watches_of(user)[-1])
        assert [one.video_id for one in made.items] == [one.video_id for one in answer.items]
        assert [one.source for one in made.items] == [one.source for one in answer.items]
        for name in ("score", "expected_watch_ms"):
            found = [getattr(one, name) for one in made.items]
            assert found == pytest.approx([getattr(one, name) for one in answer.items], rel=1e-4)
        assert (made.bundle_id, made.generation) == (answer.bundle_id, answer.generation)


def test_what_was_shown_in_vain_counts_as_online(served):
    """The rules that follow ranking are part of it."""
    recommender = served.recommender(num_recommended=3, clock=ManualClock(T0))
    window = fold(EMPTY, watches_of(3), WindowPolicy())
    [before] = job.answers(recommender, [("u", window)])
    first = before.items[0].video_id
    after = fold(window, [shown(first, user_id="u", at_ms=9_000)], WindowPolicy())

    [made] = job.answers(recommender, [("u", after)])
    assert made.items[0].video_id != first


def test_every_user_has_one_list_in_the_order_of_ids(served, tmp_path):
    world = World(served, tmp_path)
    done = world.go()

    assert [one.user_id for one in world.lists()] == list(USERS.windows)
    assert done.num_users == NUM_USERS


def test_a_run_that_was_killed_goes_on_where_it_was(served, tmp_path):
    """What is done is not done again, and the file is that of a run without a kill."""
    World(served, tmp_path / "whole").go()
    killed = World(served, tmp_path)
    killed.room = 2
    with pytest.raises(BrokenPipeError):
        killed.go()
    assert not killed.out.exists()

    again = World(served, tmp_path)
    again.go()

    assert again.num_answered == NUM_USERS - 14
    assert again.out.read_bytes() == (tmp_path / "whole" / "lists.jsonl").read_bytes()


def test_a_part_that_was_written_but_not_noted_is_written_again(served, tmp_path):
    """A kill between the two."""
    world = World(served, tmp_path)
    world.room = 2
    with pytest.raises(BrokenPipeError):
        world.go()
    (tmp_path / "work" / "part-000002.jsonl").write_bytes(b'{"half": ')

    again = World(served, tmp_path)
    again.go()
    assert [one.user_id for one in again.lists()] == list(USERS.windows)


def test_a_run_that_was_stopped_leaves_no_file_and_keeps_what_is_done(served, tmp_path):
    world = World(served, tmp_path)
    done = world.go(should_stop=lambda: world.num_answered >= 14)

    assert not world.out.exists()
    assert 0 < done.num_users < NUM_USERS


def test_a_run_does_not_go_on_with_another_bundle(served, tmp_path):
    """One file of lists by two models would be neither."""
    world = World(served, tmp_path)
    world.room = 1
    with pytest.raises(BrokenPipeError):
        world.go()

    with pytest.raises(ContractError, match=r"b1.*b2.*--restart"):
        World(served, tmp_path, bundle_id="b2").go()


def test_a_run_does_not_go_on_with_another_log(served, tmp_path):
    """The users of one log up to a name, and those of another one behind it, are no list of all."""
    world = World(served, tmp_path)
    world.room = 1
    with pytest.raises(BrokenPipeError):
        world.go()

    other = World(served, tmp_path)
    other.run = replace(other.run, data="kuairand:log")
    with pytest.raises(ContractError, match=r"broker.*kuairand:log.*--restart"):
        other.go()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_part_that_is_missing_or_damaged_is_told_with_the_remedy(
    served, tmp_path, suffix, damage
):
    """A file of lists that lacks some would look whole."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    world = World(served, tmp_path, suffix=suffix)
    world.go()
    world.out.unlink()
    part = world.run.work_dir / f"part-000001{suffix}"
    whole = part.read_bytes()
    part.unlink()
    if damage != "missing":
        part.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])

    with pytest.raises(ContractError, match="--restart"):
        World(served, tmp_path, suffix=suffix).go()
    assert not world.out.exists()


def test_a_part_is_on_disk_before_the_progress_names_it(served, tmp_path, monkeypatch):
    """Else the lists of its users were lost when the machine loses power."""
    world, synced = World(served, tmp_path), []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: (synced.append(_size_of(number)), sync(number))[1]
    )

    world.go()

    sizes = [one.stat().st_size for one in sorted(world.run.work_dir.glob("part-*"))]
    assert [size for size in synced if size in sizes] == sizes


def _size_of(number):
    return os.fstat(number).st_size


def test_what_else_is_in_the_working_directory_stays(served, tmp_path):
    """The file of lists may be there, or anything of the user's."""
    world = World(served, tmp_path)
    world.run = replace(world.run, path=world.run.work_dir / "lists.jsonl")
    world.go()
    (world.run.work_dir / job.WINDOWS).mkdir()

    job.discard(world.run.work_dir)

    assert [one.name for one in world.run.work_dir.iterdir()] == ["lists.jsonl"]


def test_a_working_directory_of_the_run_alone_is_removed(served, tmp_path):
    world = World(served, tmp_path)
    world.go()

    job.discard(world.run.work_dir)
    job.discard(world.run.work_dir)

    assert not world.run.work_dir.exists()


def test_parquet_has_the_same_lists(served, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    lines, table = World(served, tmp_path / "a"), World(served, tmp_path / "b", suffix=".parquet")
    lines.go()
    table.go()

    rows = parquet.read_table(table.out).to_pylist()
    assert rows == [json.loads(msgspec.json.encode(one)) for one in lines.lists()]


def test_the_windows_of_a_store_come_ordered_and_after_any_user(tmp_path):
    users = StoredUsers(tmp_path)
    records = {user: codec.encode(window) for user, window in USERS.windows.items()}
    users.put({**records, "damaged": b"\x05 not a window"})

    assert dict(users.scan()) == USERS.windows
    assert [user for user, _ in users.scan("u027")] == ["u028", "u029"]
    assert users.get(["u003", "nobody"]) == [USERS.windows["u003"], EMPTY]
    users.close()
