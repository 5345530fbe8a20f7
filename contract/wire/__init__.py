"""What is on the topics: events, their rules, and the AsyncAPI document."""
