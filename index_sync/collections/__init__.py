"""Write the vector collections, one per generation."""
