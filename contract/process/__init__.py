"""Implement what all processes share: settings, log, readiness, exit codes."""
