"""Serve the topics over HTTP: events in, recommendations out. Read `gateway.py` first."""
