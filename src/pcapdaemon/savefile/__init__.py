"""Savefiles: their bytes in memory or on disk, their annotations, and how captures become one."""
