"""Count the figures of one run in bounded memory, without Kafka."""
