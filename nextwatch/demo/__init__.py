"""Show the whole system at work on this machine. Read ``nextwatch/demo/run.py`` first."""
