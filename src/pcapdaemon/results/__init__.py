"""What requesters hear: results on buses, by webhook and as server-sent events, and the records of the API."""
