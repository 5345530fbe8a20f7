"""Index: every upload and every new item vector into Qdrant. Read ``index_sync/worker.py`` first."""
