"""Where in Incus the servers of a lab are made: the lab file's section `incus`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class IncusSettings:
    """See docs/incus.md for what each of them means; the lab file checks what may stand in them."""

    remote: str | None = None  # as `incus remote list` has it, else what the client takes then
    project: str = "default"
    profile: str = "default"  # gives the root disk, and the network if `network` does not
    network: str | None = None  # a managed network, or a bridge of the machines
    addresses: str | None = None  # "10.78.0.100-10.78.0.199/24": where Incus gives none
    type: Literal["container", "vm"] = "container"
    placement: str = "spread"  # or "pack", or "member:NAME"
    regions: Mapping[str, str] = field(default_factory=dict)  # region -> cluster group
    config: str | None = None  # the client's own folder, else that of the user
