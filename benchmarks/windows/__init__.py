"""What the history windows must be by the events alone, and what changelog and stores hold."""
