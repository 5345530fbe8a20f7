"""The page of an operator: figures, models, dead letters, erasure and faults."""
