"""The nftables rules of a guest: what may come in, and what a control node may reach on the host.

Pure. The rules are a table of our own, so that loading them again replaces them in one step and
touches nobody else's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from labcore.errors import UsageProblem

# The host also hands out addresses and answers names.
HOST_ALWAYS = ("udp dport { 53, 67 } accept", "tcp dport 53 accept")


def rules(
    ports: Iterable[int],
    sources: Iterable[str],
    *,
    manager_host: str,
    host_ports: Sequence[int] | None,
) -> str:
    """The content of /etc/nftables.conf.

    `ports` are open to `sources` (networks), nothing else is open to anybody. `host_ports` are the
    only ones of `manager_host` (an address) that the guest may connect to; None: any. Raises
    UsageProblem for what is no network or no address.
    """
    lines = [
        "#!/usr/sbin/nft -f",
        "# Written by labctl-seed; a new seed replaces it.",
        "table inet labctl",
        "delete table inet labctl",
        "table inet labctl {",
        *_chain("input", "drop", _input(sorted(set(ports)), sources)),
        *_chain("forward", "drop", []),
    ]
    if host_ports is not None:
        lines += _chain("output", "accept", _output(manager_host, sorted(set(host_ports))))
    return "\n".join([*lines, "}", ""])


def _chain(hook: str, policy: str, body: Sequence[str]) -> list[str]:
    first = f"type filter hook {hook} priority filter; policy {policy};"
    return [f"    chain {hook} {{", *(f"        {line}" for line in (first, *body)), "    }"]


def _input(ports: Sequence[int], sources: Iterable[str]) -> list[str]:
    lines = [
        "iif lo accept",
        "ct state established,related accept",
        "ct state invalid drop",
        # Without neighbour discovery IPv6 is deaf.
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept",
    ]
    for family, networks in _by_family(sources).items():
        who = f"{family} saddr {_set(networks)}"
        # Whoever may connect may also ask whether the guest is there.
        echo = "icmp type echo-request" if family == "ip" else "icmpv6 type echo-request"
        lines.append(f"{who} {echo} accept")
        if ports:
            lines.append(f"{who} tcp dport {_set(map(str, ports))} accept")
    return lines


def _output(manager_host: str, host_ports: Sequence[int]) -> list[str]:
    address = _address(manager_host)
    to_host = f"{'ip' if address.version == 4 else 'ip6'} daddr {address}"
    allowed = (f"tcp dport {_set(_ranges(host_ports))} accept",) if host_ports else ()
    return [
        "oif lo accept",
        "ct state established,related accept",
        *(f"{to_host} {rule}" for rule in (*HOST_ALWAYS, *allowed)),
        f"{to_host} reject",
    ]


def _by_family(sources: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for network in sorted({_network(source) for source in sources}, key=str):
        found.setdefault("ip" if network.version == 4 else "ip6", []).append(str(network))
    return found


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageProblem(f"a source of the lab's ports is no network: {error}") from error


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageProblem(f"the server-manager's host is no address: {error}") from error


def _ranges(numbers: Sequence[int]) -> list[str]:
    """Sorted numbers, neighbours as `first-last`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


def _set(items: Iterable[str]) -> str:
    return f"{{ {', '.join(items)} }}"
