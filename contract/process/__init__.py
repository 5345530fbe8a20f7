"""What every process does alike: settings, log, readiness, exit codes."""
