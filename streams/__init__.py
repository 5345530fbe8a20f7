"""Serve: from one event to one recommendation. Read ``streams/recommend.py`` first."""
