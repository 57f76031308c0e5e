# cython: language_level=3
"""The counts that captures share when they become one file."""

from pcapdaemon.native.records cimport SharedCounts

cdef class SharedLimits:
    cdef SharedCounts counts
