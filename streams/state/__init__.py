"""The windows of the partitions that this worker owns, on disk and in the changelog."""
