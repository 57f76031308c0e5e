"""Who sent a message, and what the requester may do."""
