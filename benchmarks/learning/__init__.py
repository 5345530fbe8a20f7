"""Measure what a trainer that never ends does: checkpoints, tables, whether it still learns."""
