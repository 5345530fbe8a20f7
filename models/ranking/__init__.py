"""Rankers: networks that order candidates by expected watch time, learned online (torch)."""
