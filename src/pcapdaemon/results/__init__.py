"""What requesters hear.

Results on buses, by webhook and as server-sent events, and the records of the API.
"""
