"""The command line, the embedded stack, the sources of events. Read ``nextwatch/commands/cli.py`` first."""
