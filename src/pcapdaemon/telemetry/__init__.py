"""Turns events into log lines and metrics."""
