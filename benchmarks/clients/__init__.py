"""Kafka clients of other people against Nextwatch, each with its own default settings."""
