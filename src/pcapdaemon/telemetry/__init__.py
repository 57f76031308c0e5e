"""Log lines and metrics, made from events."""
