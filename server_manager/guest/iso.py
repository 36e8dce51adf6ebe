"""A seed as a small ISO, for guests that are given a disc."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

from labcore.files import write_atomic
from server_manager.guest.seed import Seed

LABEL = "LABCTL"
FOLDER_MODE = 0o040755
FILE_MODE = 0o100000


def write_iso(seed: Seed, path: Path) -> None:
    """Write the seed as an ISO 9660 file with Rock Ridge names, readable by its owner alone.

    Its volume set is named for the seed's digest, so that people can tell discs apart.
    """
    # Imported here: only one driver makes discs.
    import pycdlib

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", vol_ident=LABEL, vol_set_ident=seed.digest)
    try:
        folders: dict[str, str] = {".": ""}
        for number, (name, file) in enumerate(seed.files.items()):
            place = PurePosixPath(name)
            folder = str(place.parent)
            if folder not in folders:
                folders[folder] = f"/D{len(folders):04d}"
                iso.add_directory(folders[folder], rr_name=place.parent.name, file_mode=FOLDER_MODE)
            iso.add_fp(
                io.BytesIO(file.content),
                len(file.content),
                f"{folders[folder]}/F{number:04d}.;1",
                rr_name=place.name,
                file_mode=FILE_MODE | file.mode,
            )
        buffer = io.BytesIO()
        iso.write_fp(buffer)
    finally:
        iso.close()
    write_atomic(path, buffer.getvalue(), mode=0o600)
