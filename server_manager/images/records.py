"""Images as rows: what is wished for, and how far each is, written before anything is done."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from typing import Any

from labcore.codec import decode, encode
from labcore.errors import NotFound
from labcore.wire.image import Image
from server_manager.database import Database
from server_manager.drivers.imaging import ImageRef


class ImageRecords:
    """The images of all drivers. `labs` is empty in what is kept: the labs know it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> tuple[Image, ...]:
        """Every image, the newest first."""
        rows = self._database.rows("SELECT image FROM images ORDER BY created_at DESC, name")
        return tuple(_image(row) for row in rows)

    def find(self, driver: str, name: str) -> Image | None:
        """One image, if there is one."""
        rows = self._database.rows(
            "SELECT image FROM images WHERE driver = ? AND name = ?", driver, name
        )
        return _image(rows[0]) if rows else None

    def get(self, driver: str, name: str) -> Image:
        """One image; raises NotFound."""
        found = self.find(driver, name)
        if found is None:
            raise NotFound(
                f"driver {driver!r} has no image {name!r}", "labctl image list shows all"
            )
        return found

    def put(self, image: Image) -> Image:
        """Write an image down as it is now, over what was written; that image."""
        self._database.rows(
            "INSERT OR REPLACE INTO images (driver, name, created_at, image) VALUES (?, ?, ?, ?)",
            image.driver,
            image.name,
            image.created_at,
            json.dumps(encode(image)),
        )
        return image

    def change(self, image: Image, **fields: Any) -> Image:
        """Write some fields of an image down; what it is now. Raises NotFound if it was removed."""
        with self._database.transaction():
            now = self.get(image.driver, image.name)
            return self.put(dataclasses.replace(now, **fields))

    def remove(self, image: Image) -> None:
        """Forget an image."""
        self._database.rows(
            "DELETE FROM images WHERE driver = ? AND name = ?", image.driver, image.name
        )


def ref_of(image: Image) -> ImageRef:
    """How drivers call it."""
    return ImageRef(image.name, image.id)


def _image(row: sqlite3.Row) -> Image:
    return decode(Image, json.loads(row["image"]))
