"""What makes a machine one that labs can be cloned from: the provision scripts, the node program,
and `build.sh`, which runs them in order. It travels as one archive, unpacked into a folder.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from labcore.errors import NotFound
from server_manager import node_program
from server_manager.images.login import USER

BUILD = "build.sh"
THEN_OFF = "then-power-off"  # its one argument, for whoever cannot come back to do that
PROGRAM = "program.tar.gz"
APP_IMAGE = "app-image.tar"  # put beside it, where there is one
# The first login goes last: afterwards nobody gets in without a seed.
SCRIPT = f"""#!/bin/sh
# Makes this machine an image: run me as root; it is to be powered off then.
set -eu
cd "$(dirname "$0")"
sh ./provision.sh
sh ./seal.sh
if getent passwd {USER} >/dev/null; then
    rm -f /etc/sudoers.d/90-cloud-init-users
    # It is logged in, which is a complaint; whether it is gone counts.
    userdel -f -r {USER} >/dev/null 2>&1 || :
    if getent passwd {USER} >/dev/null; then exit 1; fi
fi
here=$(pwd)
cd /
rm -rf "$here"
sync
# In the background: the answer must be on its way before the network is gone.
if [ "${{1:-}}" = {THEN_OFF} ]; then
    (sleep 2; systemctl poweroff || poweroff -f) </dev/null >/dev/null 2>&1 &
fi
"""


def archive() -> bytes:
    """The archive, a plain tar: equal bytes for equal sources."""
    files = {**scripts(), BUILD: SCRIPT.encode(), PROGRAM: node_program.archive()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def digest() -> str:
    """Of what an image is made by; another one says that an image is of an older labctl."""
    total = hashlib.sha256()
    for name, content in sorted(scripts().items()):
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()


def scripts() -> dict[str, bytes]:
    """The files of `vagrant/provision`; raises NotFound where they were not installed."""
    here = Path(__file__).resolve().parent
    # Beside us where labctl was installed; in a source tree, where Vagrant finds them too.
    places = (here / "provision", here.parent.parent / "vagrant" / "provision")
    found = next((place for place in places if (place / "provision.sh").exists()), None)
    if found is None:
        raise NotFound(f"the provision scripts are not there: {places[0]}", "install labctl again")
    return {path.name: path.read_bytes() for path in sorted(found.iterdir()) if path.is_file()}
