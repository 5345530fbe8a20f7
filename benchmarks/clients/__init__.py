"""Kafka clients of other people against Nextwatch, each as docs/clients.md sets it."""
