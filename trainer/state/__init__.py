"""Everything learned, and its checkpoints."""
