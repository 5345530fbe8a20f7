"""Send events from two sources: replayed real logs, and a simulated audience.

Read ``nextwatch/sources/feed.py`` first.
"""
