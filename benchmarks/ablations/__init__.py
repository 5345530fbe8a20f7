"""Ablations: the same training with and without one part of a retrieval model."""
