"""Serve: from one event to one recommendation. Read ``streams/serving/recommend.py`` first."""
