"""Start, supervise and stop child processes."""
