"""What a worker computes with a bundle; needs no torch."""
