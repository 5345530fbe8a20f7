"""Compare the features that serving logged with those that the topics give."""
