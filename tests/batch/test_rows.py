"""Which files rows can be written to is told before anything is computed."""

import pytest

from nextwatch.batch.rows import check_name


@pytest.mark.parametrize("below", ["lists.jsonl", "more/lists.jsonl"])
def test_a_name_below_a_file_is_refused(tmp_path, below):
    (tmp_path / "taken").touch()

    with pytest.raises(ValueError, match="below a file"):
        check_name(tmp_path / "taken" / below)


def test_a_folder_that_is_not_there_yet_will_be_made(tmp_path):
    check_name(tmp_path / "new" / "lists.jsonl")
    assert not (tmp_path / "new").exists()
