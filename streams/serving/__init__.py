"""From windows to recommendations: candidates, ranking and rules, by one bundle in memory."""
