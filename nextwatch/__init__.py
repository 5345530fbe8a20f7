"""The command line, the embedded stack, and the sources of events. Read ``nextwatch/cli.py`` first."""
