# cython: language_level=3
"""What all captures have in common, wherever their packets come from."""

from pcapdaemon.native.blocks cimport BlockPool
from pcapdaemon.native.filter cimport Filter
from pcapdaemon.native.handle cimport Handle
from pcapdaemon.native.limits cimport Limits
from pcapdaemon.native.merge cimport SharedLimits
from pcapdaemon.native.records cimport Output

cdef class Capture:
    # Four addresses inside the subclass's own state, which it sets once.
    cdef Output *output              # of the packets that count towards the limits
    cdef Limits *limits
    cdef int *reason                 # a Reason
    cdef Filter *required            # what the policy of the requester allows
    cdef int wake_fd                 # -1: nothing waits for it
    cdef Handle handle
    cdef BlockPool blocks
    cdef SharedLimits shared
    cdef readonly str interface
    cdef readonly str linktype
    cdef readonly int snaplen
    cdef readonly bytes header
    cdef readonly str error
    cdef readonly bint filtered_in_kernel
    cdef bint is_narrowed            # packets must match `required` too
    cdef bint runs(self)
    cdef void describe(self, Output *output, bint pcapng, int number)
    cdef int tag_at(self)
    cdef int make_wake(self) except -1
    cdef void wake(self)
    cdef int give_back(self) except -1
