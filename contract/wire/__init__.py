"""Define the records of all topics: events, their rules, and the AsyncAPI document."""
