"""Configure Kafka clients, read records and produce them."""
