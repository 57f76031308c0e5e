"""The words on the wire, one for each thing.

They are the names in answers, results, the API and savefiles, with their meaning.

The fields of a message are described with the message itself, in request.py. A test checks that
the API and the results use no other words.
"""

from pcapdaemon.core.request import ON_THE_WIRE

WORDS = {
    "state": (
        "Of a request: `running`, `finished` or `rejected`. Of a capture: `starting`, `running`,"
        " `delivering`, `spooled` (kept in the spool and retried), `delivered`, `empty`, `failed`"
        " (never began) or `lost` (captured, but not delivered everywhere)."
    ),
    "source": "The source that the request came from.",
    "received_at": "When the request arrived.",
    "limits": "The limits of each capture: `packets`, `bytes`, `duration`, `timeout`.",
    "problems": (
        "What is wrong with the request. In results: objects with `field` and `message`. In"
        " records: text."
    ),
    "errors": "The same in an answer of the API: objects with `field` and `message`.",
    "field": "The message's field that a problem is about. Empty: the whole message.",
    "message": "What is wrong, and what to do.",
    "kind": ("Why a request was rejected: see [the message](message.md)."),
    "hint": "What to do next.",
    "warnings": "What is odd about the request, but no reason to reject it.",
    "requester": "Who asked, `[[requester]]`. Empty: the node knows no requesters.",
    "joined": "The id of the request whose captures serve this one too.",
    "again": "The request was accepted before, and is not captured again.",
    "href": "The path of the request in the API.",
    "detail": "Why the request was refused, in words.",
    "captures": "The captures of the request, one for each interface.",
    "final": "Whether this is the last result of the request: no savefile waits in the spool.",
    "running": "The requests that run on the node.",
    "version": "The version of the program on the node.",
    "recorders": "The recorders of the node.",
    "used": "Bytes of `memory` that are in use.",
    "url": "The address of the node's console and API, `[http] public_url`. Of a cause: where people read about it.",
    "since": "When a request began to run.",
    "unavailable": "Interfaces that were asked for and can't be captured on, and why.",
    "linktype": "The link-layer header type of the packets, by libpcap's name.",
    "started_at": "When the filter was set. Matching packets are kept from then on.",
    ON_THE_WIRE["size"]: (
        "Bytes of the savefile, including headers. If it is compressed: of its content."
    ),
    "received": "Packets that matched the filter, see pcap_stats(3pcap).",
    "dropped": (
        "Packets that were lost because the kernel's buffer or the recorder's memory was full."
    ),
    "dropped_by_interface": "Packets that the interface lost.",
    "stop_reason": (
        "What ended the capture: `packets`, `bytes`, `duration`, `idle`, `stopped`, `shutdown`,"
        " `memory`, `interface-down`, `gone` (the target has ended), `error` or `end-of-file`."
    ),
    "seconds": "How long the capture ran. Of a recorder: how long it keeps packets.",
    "trigger": "The moment of the request, from which its limits count.",
    "down": "Seconds for which the interface was down during the capture.",
    "filtered_in": (
        "Where the capture filter ran: `kernel` or `process`. In the process of the daemon, all"
        " packets of the interface use the buffer of the capture, so more may be dropped."
    ),
    "target": (
        "What the interface leads to: an object with the message's field that named it, `uid` and"
        " `container` of a pod, and `inside`. Null: the host itself."
    ),
    "targets": "The `target` of each interface that has one, by interface.",
    "uid": "The uid of a pod.",
    "one_sided": (
        "Whether packets from the target passed the interface during the capture, but none to it."
    ),
    "first_packet_at": "The time of the first packet.",
    "last_packet_at": "The time of the last packet.",
    "asked": "Of a lookback: seconds that were asked for.",
    "covered": "Seconds from before the trigger that the recorder has, without gaps.",
    "content": (
        "The content of a compressed or encrypted savefile: `compression`, `bytes`, `sha256`."
        " Of an encrypted one, `sha256` is empty unless the request asked for it."
    ),
    "compression": "How a savefile is compressed.",
    "encryption": "`age` if a savefile is encrypted, otherwise empty.",
    "recipients": "How many can decrypt a savefile.",
    "error": "libpcap's own words, if the capture ended with an error.",
    "complete": "Whether no packet is known to be missing.",
    "missing": "Why packets may be missing.",
    "file_name": "The name of the savefile. Empty: there is none.",
    "sha256": "The SHA-256 of the savefile, in hexadecimal.",
    "delivered": "The receipts of the destinations that have the savefile.",
    "pending": "The destinations that do not have the savefile yet.",
    "lost": "The destinations that will not get the savefile, and why.",
    "destination": "The name of a destination.",
    "receipt": "What a destination reports about a savefile: `where`, `id`, `link`.",
    "where": "A path or a URL for people, without secrets.",
    "link": "A URL that opens the savefile for anyone who has it.",
    "reason": (
        "Why a capture or a recorder is in its state. Of a lookback: why it does not cover all"
        " seconds that were asked for."
    ),
    "recording": "Whether a recorder records.",
    "memory": "The most memory that a recorder, or all captures of a node, may use, in bytes.",
    "cpu": "Seconds of CPU that a recorder has used.",
}
"""Words that no field of a message has -> what they mean. Times are seconds since the epoch."""
