# cython: language_level=3
"""What captures that become one file have shared."""

from pcapdaemon.native.records cimport SharedCounts

cdef class SharedLimits:
    cdef SharedCounts shared
