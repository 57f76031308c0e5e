"""Delivers savefiles to all destinations, and keeps them in the spool until then."""
