"""The status of a process over HTTP: its metrics, its health and its readiness."""
