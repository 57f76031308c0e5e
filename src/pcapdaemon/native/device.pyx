# cython: language_level=3
"""Follows the device behind an interface's name, through rtnetlink(7)."""

from libc.string cimport memset, strcmp

from pcapdaemon.native.posix cimport *

cdef enum:
    RTMGRP_LINK = 1


cdef bint device_init(Device *device, int packet_fd, const char *name) noexcept nogil:
    """Remember the device that a packet socket is bound to.

    False if `name` is another one's by now. The socket for changes is opened first, so that none is
    missed.
    """
    cdef sockaddr_ll bound
    cdef sockaddr_nl groups
    cdef socklen_t length = sizeof(bound)
    device.index = 0
    device.link_fd = -1
    memset(&bound, 0, sizeof(bound))
    if getsockname(packet_fd, <sockaddr *> &bound, &length) != 0:
        return True
    if bound.sll_family != AF_PACKET or bound.sll_ifindex <= 0:
        return True
    memset(&groups, 0, sizeof(groups))
    groups.nl_family = AF_NETLINK
    groups.nl_groups = RTMGRP_LINK
    device.link_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)
    if device.link_fd < 0:
        return True                  # it can't be followed: only errors of the socket count
    bind(device.link_fd, <sockaddr *> &groups, sizeof(groups))
    device.index = bound.sll_ifindex
    return (
        if_indextoname(device.index, device.name) != NULL
        and if_nametoindex(name) == <unsigned int> device.index
    )

cdef void device_close(Device *device) noexcept nogil:
    if device.link_fd >= 0:
        close(device.link_fd)
    device.link_fd = -1

cdef DeviceState device_state(Device *device) noexcept nogil:
    cdef ifreq request
    if device.index == 0 or device.link_fd < 0:
        return UP
    # Not if_indextoname, which needs a descriptor: there may be none left.
    memset(&request, 0, sizeof(request))
    request.ifr_ifindex = device.index
    if ioctl(device.link_fd, SIOCGIFNAME, &request) != 0:
        return GONE
    if strcmp(request.ifr_name, device.name) != 0:
        return GONE
    if ioctl(device.link_fd, SIOCGIFFLAGS, &request) != 0:
        return GONE
    return UP if request.ifr_flags & IFF_UP else DOWN

cdef void skip_link_changes(Device *device) noexcept nogil:
    """Take what the link socket holds; only that there was a change matters."""
    cdef char buffer[8192]
    while recv(device.link_fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0:
        pass

cdef str new_name(Device *device):
    """Return what the device is called now; empty if it is not in this namespace any more."""
    cdef char name[NAME]
    if device.index == 0 or if_indextoname(device.index, name) == NULL:
        return ""
    return name.decode(errors="replace")
