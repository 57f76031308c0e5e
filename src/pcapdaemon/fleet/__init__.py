"""What other nodes report: checked, followed, and for the console that shows the whole fleet."""
