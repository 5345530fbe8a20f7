"""Metrics of every process: their definitions, their recording and their exposition."""
