"""A corner of a running stack; the benchmarks use it, too."""

from benchmarks.places import Place, Worker

__all__ = ["Place", "Worker"]
