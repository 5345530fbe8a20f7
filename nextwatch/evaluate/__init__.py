"""Measure retrieval models on real logs, beside the baselines that they have to beat.

Read `nextwatch.evaluate.prequential` first: score, then learn, in the order of time.
"""
