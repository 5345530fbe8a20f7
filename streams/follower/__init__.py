"""Keeps the bundle in service current: announcements, item vectors, uploads."""
