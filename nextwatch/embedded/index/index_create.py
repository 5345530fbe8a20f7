"""Create the files of an empty collection, in a process of its own.

One call does it and holds the interpreter lock meanwhile, so in the server no search would be
answered (docs/experiments.md, "Creating a collection").
"""

import sys
from pathlib import Path

import msgspec
import qdrant_edge as edge

from nextwatch.embedded.index.index_collection import SETTINGS, CollectionSettings


def create(directory: Path, settings: CollectionSettings) -> None:
    """Create an empty collection in *directory*, which does not exist yet."""
    edge.EdgeShard.create(str(directory), settings.engine_config()).close()
    (directory / SETTINGS).write_bytes(msgspec.json.encode(settings))


if __name__ == "__main__":
    create(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=CollectionSettings))
