"""Windows and uploads as the inputs of models, for training and serving alike."""
