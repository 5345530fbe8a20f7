"""Command line, embedded stack, sources of events; start reading at `nextwatch.commands.cli`."""
