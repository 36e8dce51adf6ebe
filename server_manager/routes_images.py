"""Views of images; all of them are for people only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labcore.codec import encode
from labcore.errors import from_wire
from labcore.wire.image import ImageWish
from server_manager.requests import Answer, Views, body, check_admin


@dataclass(frozen=True)
class Provisioned:
    """The body of `POST …/provisioned`: `error` as in an error answer, if it failed."""

    error: object = None


class ImageViews(Views):
    """Below `/api/v1/images`."""

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        """Rule, method and view of each."""
        image = "/images/<driver>/<name>"
        return [
            ("/images", "GET", self.images),
            (image, "GET", self.image),
            (image, "PUT", self.put),
            (image, "DELETE", self.remove),
            (f"{image}/cancel", "POST", self.cancel),
            (f"{image}/working", "POST", self.working),
            (f"{image}/provisioned", "POST", self.provisioned),
        ]

    def images(self) -> Answer:
        check_admin()
        return {"images": encode(self.manager.images.all())}

    def image(self, driver: str, name: str) -> Answer:
        check_admin()
        return dict(encode(self.manager.images.one(driver, name)))

    def put(self, driver: str, name: str) -> Answer:
        check_admin()
        run = self.manager.images.put(driver, name, body(ImageWish))
        return {"image": name, "run": run}, 202

    def remove(self, driver: str, name: str) -> Answer:
        check_admin()
        self.manager.images.remove(driver, name)
        return {"image": name}

    def cancel(self, driver: str, name: str) -> Answer:
        check_admin()
        self.manager.images.cancel(driver, name)
        return {"image": name}

    def working(self, driver: str, name: str) -> Answer:
        check_admin()
        self.manager.images.heard(driver, name)
        return {"image": name}

    def provisioned(self, driver: str, name: str) -> Answer:
        check_admin()
        told = body(Provisioned).error
        problem = None if told is None else from_wire({"error": told}, "it was not provisioned")
        self.manager.images.provisioned(driver, name, problem)
        return {"image": name}
