"""Measures what it is worth that weights, counters and user vectors are fresh."""
