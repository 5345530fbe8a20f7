"""Examine a deployment from outside, part by part, for `nextwatch doctor`."""
