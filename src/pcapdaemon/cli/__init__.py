"""The command line. Only these files print."""
