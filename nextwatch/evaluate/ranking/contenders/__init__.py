"""Who takes part in every run beside the rankers: the control, counters and other libraries."""
