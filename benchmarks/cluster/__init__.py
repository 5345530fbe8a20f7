"""Apache Kafka as a cluster, for tests and benchmarks. Read ``cluster.py`` first."""
