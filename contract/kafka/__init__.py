"""Kafka clients that agree with each other: configuration, records, produced records."""
