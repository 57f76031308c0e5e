"""The command line. Only these modules print."""
