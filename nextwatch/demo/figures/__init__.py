"""What was measured of one run, counted in bounded memory. Plain state, without Kafka."""
