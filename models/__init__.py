"""Features, models and bundles: what training and serving must compute alike.

Read ``models/bundle/bundle.py`` first. Only modules that say so in their first line import torch.
"""
