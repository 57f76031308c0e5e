"""pcapdaemon: packet captures on request, for a whole fleet.

A request passes through these modules in this order:

    sources/       receive a message
    core/          decides in intake.py whether it is for this node, new, recent and possible
    engine.py      answers and settles the message, and passes accepted requests to runs.py
    capture/       runs a session on a live interface, a recorder or a replayed file
    native/        runs libpcap's packet loop in memory, without running Python for each packet
    savefile/      turns the packets into a pcap or pcapng file
    delivery/      sends the file to all destinations, from memory or from the spool
    destinations/  store it
    results/       send the outcome to the requester
    telemetry/     writes log lines and counts

`daemon.py` builds these parts, and starts and stops them. `api/` and `cli/` are the interfaces for
people and other programs.
"""

__version__ = "0.1.0"
