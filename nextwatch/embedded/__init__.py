"""The whole system on one machine without containers. Read ``nextwatch/embedded/stack.py`` first."""
