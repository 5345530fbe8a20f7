"""Inspect dead letters, replay them, and erase users, for operators."""
