"""The first login into a cloud image: a NoCloud disk with a one-time key and a host key of ours."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

from labcore.files import write_atomic, write_secret
from server_manager.ssh_keys import make_pair

USER = "labctl-build"  # removed when the image is sealed
KEY = "id_ed25519"
HOST_KEY = "host_ed25519.pub"
LABEL = "cidata"


def make_login(directory: Path, instance: str) -> Path:
    """Make new keys in `directory` and an ISO that brings them into a cloud image; its path.

    The image gets one user, with sudo and no password, and the host key whose public half lies
    in `host_ed25519.pub`: the very first connection can be checked.
    """
    user, host = make_pair(USER), make_pair("builder")
    data = {
        "users": [
            {
                "name": USER,
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd": True,
                "ssh_authorized_keys": [user.public],
            }
        ],
        "ssh_pwauth": False,
        "ssh_keys": {"ed25519_private": host.private, "ed25519_public": host.public},
        "package_update": False,
        "growpart": {"mode": "auto"},
    }
    files = {
        # JSON is YAML.
        "user-data": ("#cloud-config\n" + json.dumps(data, indent=1) + "\n").encode(),
        "meta-data": json.dumps({"instance-id": instance, "local-hostname": "builder"}).encode(),
    }
    write_secret(directory / KEY, user.private)
    write_secret(directory / HOST_KEY, host.public + "\n")
    path = directory / "login.iso"
    write_atomic(path, _iso(files), mode=0o600)
    return path


def _iso(files: Mapping[str, bytes]) -> bytes:
    # Imported here: only a build needs it.
    import pycdlib

    iso, out = pycdlib.PyCdlib(), io.BytesIO()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for number, (name, content) in enumerate(files.items()):
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
        )
    iso.write_fp(out)
    iso.close()
    return out.getvalue()
