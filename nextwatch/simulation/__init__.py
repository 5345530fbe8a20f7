"""Simulate an audience and its catalogue."""
