"""Define what processes share: events, topics, errors, clock and connection settings.

Read ``contract/wire/events.py`` first.
"""
