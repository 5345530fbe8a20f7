"""Build the HNSW graph of one collection, in a process of its own.

The engine builds only inside a blocking call that holds the interpreter lock for seconds to
minutes, so the index server closes the collection, starts this on its directory, and opens
the collection again when this has ended. Killed half-way, it leaves a collection that
searches exactly, as before.
"""

import argparse
from pathlib import Path

import qdrant_edge as edge

from nextwatch.embedded.index.index_collection import load_settings


def build(directory: Path, *, threshold_kb: int) -> None:
    """Build the graph for segments with at least *threshold_kb* of vectors."""
    settings = load_settings(directory)
    hnsw = edge.HnswIndexConfig(
        m=settings.m, ef_construct=settings.ef_construct, full_scan_threshold=threshold_kb
    )
    optimizers = edge.EdgeOptimizersConfig(indexing_threshold=threshold_kb)
    config = settings.engine_config(hnsw_config=hnsw, optimizers=optimizers)
    shard = edge.EdgeShard.load(str(directory), config)
    try:
        shard.optimize()
        shard.flush()
    finally:
        shard.close()


def main() -> None:
    """Build the graph of the collection on the command line."""
    parser = argparse.ArgumentParser(prog="python -m nextwatch.embedded.index.index_build")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--threshold-kb", type=int, required=True)
    given = parser.parse_args()
    build(given.directory, threshold_kb=given.threshold_kb)


if __name__ == "__main__":
    main()
