"""What crosses a process border: events, topics, errors, clock and connection settings.

Read ``contract/wire/events.py`` first.
"""
