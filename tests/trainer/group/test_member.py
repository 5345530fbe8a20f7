"""What a rank of a group refuses before it speaks to the others."""

import pytest

from contract.errors import ContractError
from tests.trainer.test_loop import Room
from trainer.__main__ import hold_directories, in_own_directory
from trainer.group.group import Group
from trainer.group.member import Member
from trainer.settings import TrainerSettings


@pytest.mark.parametrize("name", ["backfill_users", "backfill_passes"])
def test_a_group_refuses_to_learn_in_passes_before_it_reads_or_saves_anything(tmp_path, name):
    """Each rank reads its own partitions: passes over them would teach each another model."""
    room = Room(tmp_path)
    member = Member(room.trainer._parts, TrainerSettings(**{name: 2}), Group(rank=0, size=2))

    with pytest.raises(ContractError, match=f"NEXTWATCH_TRAINER_{name.upper()}.* set them to 0"):
        member.run(lambda: False, lambda: None)

    assert room.feed.opened == []
    assert room.checkpoints.newest() is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Group(), Group(rank=0, size=2)),
        (Group(rank=0, size=2), Group()),
        (Group(rank=0, size=2), Group(rank=0, size=3)),
        (Group(rank=1, size=2), Group(rank=1, size=2)),
    ],
)
def test_one_directory_is_for_one_trainer_or_one_group(tmp_path, first, second):
    """Before the first checkpoint nothing else tells them of one another."""

    def started(group):
        settings = TrainerSettings(checkpoint_dir=tmp_path)
        own = in_own_directory(settings, group).checkpoint_dir
        return hold_directories(tmp_path, own, group)

    held = started(first)
    with pytest.raises(ContractError, match="another process uses"):
        started(second)
    for file in held:
        file.close()
    for file in started(second):
        file.close()


def test_the_ranks_of_a_group_do_not_keep_one_another_out(tmp_path):
    settings, held = TrainerSettings(checkpoint_dir=tmp_path), []
    for rank in range(3):
        group = Group(rank=rank, size=3)
        held += hold_directories(tmp_path, in_own_directory(settings, group).checkpoint_dir, group)
    for file in held:
        file.close()
