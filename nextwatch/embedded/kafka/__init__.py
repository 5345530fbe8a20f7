"""Run Apache Kafka as the embedded broker. Read ``distribution.py`` first, then ``node.py``."""
