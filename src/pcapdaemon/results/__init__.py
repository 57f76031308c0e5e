"""Reports to requesters.

Results on buses, to a webhook and as server-sent events, and the records of the API.
"""
