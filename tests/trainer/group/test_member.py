"""What a rank of a group refuses before it speaks to the others."""

import pytest

from contract.errors import ContractError
from tests.trainer.test_loop import Room
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
