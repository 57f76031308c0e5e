# cython: language_level=3
"""Compares two compiled forms of one capture filter on generated packets."""

from pcapdaemon.native.libpcap cimport bpf_program

cdef bint agree(const bpf_program *plain, const bpf_program *other) noexcept nogil
