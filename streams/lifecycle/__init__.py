"""Health, watchdog, and how a worker ends."""
