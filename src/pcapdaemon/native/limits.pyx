# cython: language_level=3
"""The words for what ended a capture."""

# In the order of `Reason` in limits.pxd. `StopReason` in core/limits.py has the same words.
STOP_REASONS = (
    "running", "packets", "bytes", "duration", "idle", "stopped", "memory", "interface-down",
    "error", "end-of-file",
)
