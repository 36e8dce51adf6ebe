"""The image that is built where nobody names a source: Debian 12 as its cloud team offers it."""

from __future__ import annotations

import platform

from labcore.errors import UsageProblem

# A tar of one raw disk: VirtualBox reads no qcow2 of today, and not every machine has qemu-img.
# The sums lie beside it; both come from this address by TLS.
DEBIAN = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-{arch}.tar.xz"
SUMS = "https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS"

# What machines call themselves -> what Debian calls them.
ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
}


def host_arch(machine: str | None = None) -> str:
    """The architecture of this machine as Debian calls it; raises UsageProblem for others."""
    told = (machine or platform.machine()).lower()
    if told not in ARCHITECTURES:
        raise UsageProblem(
            f"there is no image for {told} machines", "name one: labctl image build FILE"
        )
    return ARCHITECTURES[told]


def default_url(arch: str) -> str:
    """Where the cloud image for an architecture is."""
    return DEBIAN.format(arch=arch)


def sum_in(sums: str, url: str) -> str | None:
    """The checksum of the file at `url` in the text of a SHA512SUMS file, if it is there."""
    wanted = url.rpartition("/")[2]
    for line in sums.splitlines():
        digest, _, name = line.strip().partition(" ")
        if name.strip().lstrip("*") == wanted:
            return digest.lower()
    return None
