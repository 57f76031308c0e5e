# cython: language_level=3
"""The device behind an interface's name.

A name is no identity: a device can be renamed, and another can take its name. The index is one: it
stays with a device, and is not used again in the life of a network namespace.
"""

cdef enum:
    NAME = 16                        # IF_NAMESIZE

cdef enum DeviceState:
    UP = 0
    DOWN                             # it may come up again
    GONE                             # it was removed, renamed, or moved to another namespace

cdef struct Device:
    int index                        # 0: none, as of `any` and of what is no network interface
    char name[NAME]                  # its name when it was opened
    int link_fd                      # readable after a change of any link; -1: none

cdef bint device_init(Device *device, int packet_fd, const char *name) noexcept nogil
cdef void device_close(Device *device) noexcept nogil
cdef DeviceState device_state(Device *device) noexcept nogil
cdef void skip_link_changes(Device *device) noexcept nogil
cdef str new_name(Device *device)
