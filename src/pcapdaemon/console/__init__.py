"""The page at `/console/`: its files, and what the configuration says of it.

`files.py` knows which files there are. The rest of the folder is what a browser loads, as it is.
"""
