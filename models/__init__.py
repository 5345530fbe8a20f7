"""Features, models and bundles, which training and serving compute in the same way.

Read ``models/bundle/bundle.py`` first. Only modules that say so in their first line import torch.
"""
