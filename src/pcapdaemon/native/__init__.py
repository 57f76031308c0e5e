"""Cython on libpcap: the packet loops, their memory, and the interfaces of this host."""
