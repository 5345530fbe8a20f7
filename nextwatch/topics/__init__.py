"""Compare the topics of a cluster with the contract, for `nextwatch topics`."""
