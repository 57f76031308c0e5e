# cython: language_level=3
"""What captures that become one file have together."""

from pcapdaemon.native.records cimport Tally

cdef class Together:
    cdef Tally tally
