"""pcapdaemon: packet captures on request, for a whole fleet.

The way of a request, in the order in which the source reads:

    sources/    a message arrives
    core/       intake.py decides: is it for this node, new, in time and possible?
    engine.py   answers and settles it; what is accepted goes to runs.py
    capture/    a session on a live interface, a recorder or a replayed file
    native/     libpcap's packet loop, in memory; no Python runs for a packet
    savefile/   the packets become a pcap or pcapng file
    delivery/   to all destinations/, from memory or from the spool
    results/    the requester receives what became of it; telemetry/ logs and counts it

`daemon.py` builds the parts and owns their life. `api/` and `cli/` are what people use.
"""

__version__ = "0.1.0"
