"""The way of a savefile to all destinations, and the spool where it waits."""
