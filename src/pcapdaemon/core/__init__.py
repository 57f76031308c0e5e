"""The pure core: values and decisions.

Nothing here does I/O, blocks, or imports third-party packages other than pydantic, re2 and ulid.
"""
