"""See the whole system work on this machine. Read ``nextwatch/demo/run.py`` first."""
