"""The learners: models that are trained example by example."""
