"""Put uploads and new item vectors into Qdrant. Read ``index_sync/worker.py`` first."""
