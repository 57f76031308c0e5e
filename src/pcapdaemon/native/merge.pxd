# cython: language_level=3
"""What captures that become one file have in common."""

from pcapdaemon.native.records cimport SharedCounts

cdef class SharedLimits:
    cdef SharedCounts counts
