"""Kafka clients of other projects against Nextwatch, configured as in docs/clients.md."""
