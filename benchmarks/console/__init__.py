"""The console in a real Chromium: its latency and cost, and the twelve tasks of a newcomer."""
