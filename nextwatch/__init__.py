"""Provide command line, embedded stack and event sources; read `nextwatch.commands.cli` first."""
