"""Two sources of events: real logs replayed, and an audience that is simulated.

Read ``nextwatch/sources/feed.py`` first.
"""
