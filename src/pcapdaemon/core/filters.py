"""What is known of a capture filter before it is compiled. Pure."""

import re
from ipaddress import IPv6Address

LONGEST_SIMPLE = 256
DEEPEST_SIMPLE = 16

PRIMITIVES = frozenset(
    "host net mask port portrange proto protochain gateway src dst and or not ether link"
    " llc ppp slip fddi tr wlan arp rarp ip ip6 inet inet6 tcp udp sctp icmp icmp6 igmp igrp"
    " pim vrrp carp ah esp atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is"
    " clnp stp ipx netbeui radio broadcast multicast less greater len inbound outbound"
    " ifindex vlan mpls pppoed pppoes geneve type subtype dir direction ra ta addr1 addr2"
    " addr3 addr4 l1 l2 iih lsp snp csnp psnp tcpflags icmptype icmpcode icmp6type icmp6code"
    " tcp-fin tcp-syn tcp-rst tcp-push tcp-ack tcp-urg tcp-ece tcp-cwr".split()
)
"""Words of pcap-filter(7) that libpcap's parser knows itself, so it never looks them up."""

_WORD = re.compile(r"[A-Za-z0-9_.:\-]+")
_TOKEN = re.compile(rf"{_WORD.pattern}|[()!&|=<>+*/%^\[\]]|\s+")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|-?[0-9]+(:[0-9]+)?|[-:]")
_RANGE = re.compile(r"[0-9]+-[0-9]+")
_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){1,3}")
_MAC = re.compile(r"[0-9a-fA-F]{1,2}([:.-])[0-9a-fA-F]{1,2}(?:\1[0-9a-fA-F]{1,2}){4}")

_END = r"(?:src|dst) (?:host [0-9a-f.:]{2,45}|port [0-9]{1,5})"
_SIDE = rf"\({_END}(?: and {_END}){{0,3}}\)"
_BOTH = rf"\({_SIDE} or {_SIDE}\)"
_WHOLE = rf"(?P<whole>\((?:tcp|udp|sctp|icmp6?) and {_BOTH}\)|{_BOTH})"
_FLOW = re.compile(rf"{_WHOLE} or \(vlan and \((?P=whole) or \(vlan and (?P=whole)\)\)\)")
"""The filter that core/flow.py makes: long, but compiled within a millisecond or two."""


def _word_for(flow: re.Match[str]) -> str:
    """Return a short filter in place of a flow's, unless it names a host."""
    hosts = re.findall(r"host ([0-9a-f.:]+)", flow[0])
    return "tcp" if all(map(_is_address, hosts)) else flow[0]


def is_simple(expression: str) -> bool:
    """Return whether libpcap compiles an expression without a lookup, in little time and memory.

    Only such an expression may be compiled in the daemon's own process.
    """
    expression = _FLOW.sub(_word_for, expression, count=1)
    if len(expression) > LONGEST_SIMPLE or _depth(expression) > DEEPEST_SIMPLE:
        return False
    tokens = _TOKEN.findall(expression)
    words = [token for token in tokens if _WORD.match(token)]
    return "".join(tokens) == expression and all(map(_is_known, words, ("", *words)))


def without(expression: str, excluded: str) -> str:
    """Return a capture filter that never matches what `excluded` matches.

    `expression` must be balanced, otherwise it could leave its parentheses.

    >>> without("tcp or udp", "port 8723")
    'not (port 8723) and (tcp or udp)'
    """
    if not excluded.strip():
        return expression
    # first, because `vlan` and others move the offsets of what is to the right of them
    rest = f"not ({excluded})"
    return f"{rest} and ({expression})" if expression.strip() else rest


def is_balanced(expression: str) -> bool:
    """Return whether each parenthesis is closed, and none that was not opened.

    In pcap-filter(7) a parenthesis is always a parenthesis: it can't be quoted.

    >>> is_balanced("(tcp)"), is_balanced("tcp) or (udp"), is_balanced("(tcp")
    (True, False, False)
    """
    depth = 0
    for character in expression:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def _is_known(word: str, before: str) -> bool:
    if before == "portrange" and _RANGE.fullmatch(word):  # elsewhere it is a name
        return True
    return word in PRIMITIVES or bool(_NUMBER.fullmatch(word)) or _is_address(word)


def _is_address(word: str) -> bool:
    if _IPV4.fullmatch(word) or _MAC.fullmatch(word):
        return True
    # libpcap takes "dead:beef" for the name "dead", and looks it up before it sees the colon
    try:
        return bool(IPv6Address(word))
    except ValueError:
        return False


def _depth(expression: str) -> int:
    deepest = depth = 0
    for character in expression:
        depth += {"(": 1, ")": -1}.get(character, 0)
        deepest = max(deepest, depth)
    return deepest
