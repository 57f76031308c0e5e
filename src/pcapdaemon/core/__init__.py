"""The pure core: values and decisions.

Nothing here reads, writes, waits, or loads more than pydantic, re2 and ulid.
"""
