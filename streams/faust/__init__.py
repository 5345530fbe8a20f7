"""Group membership, fetching and commits. The only package that knows Faust and aiokafka."""
