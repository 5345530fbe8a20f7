"""A producer that writes header names of any bytes; the benchmarks use it, too."""

from benchmarks.strange_names import send

__all__ = ["send"]
