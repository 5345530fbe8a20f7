"""A stack in use: a plain Kafka client, processes under a topic prefix, a bundle in service."""
