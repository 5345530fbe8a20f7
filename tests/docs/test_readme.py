"""What README shows of the wire is what is sent."""

import re
from pathlib import Path

import msgspec

from contract.wire.events import Recommendation

ROOT = Path(__file__).parents[2]


def test_the_answer_in_readme_has_every_field_that_is_always_sent():
    """A reader who types a struct from it finds no field more on the wire."""
    [text] = re.findall(
        r"^```json\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    answer = msgspec.json.decode(text)
    [item] = answer["items"]

    assert set(answer) == set(Recommendation.__struct_fields__)
    item_type = msgspec.json.schema_components([Recommendation])[1]["RecommendedVideo"]
    assert set(item) == set(item_type["properties"])
