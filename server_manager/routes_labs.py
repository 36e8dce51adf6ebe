"""Views of whole labs. Each says who may call it, calls one use case, and shows what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flask

from labcore.codec import encode
from labcore.names import check_name
from labcore.wire.lab import Mode
from server_manager.requests import Answer, Views, body, check_admin, json_body


@dataclass(frozen=True)
class GroupRequest:
    """The body of `PATCH /labs/{lab}/groups/{group}`."""

    desired_count: int | None = None
    mode: Mode | None = None


@dataclass(frozen=True)
class AdoptionRequest:
    """The body of `PUT /labs/{lab}/adoption`."""

    file: Mapping[str, object]  # a lab file
    machines: Mapping[str, str]  # node -> name or id of a machine of its driver


class LabViews(Views):
    """Below `/api/v1/labs`, and labs of others."""

    def routes(self) -> list[tuple[str, str, Callable[..., Answer | flask.Response]]]:
        """Rule, method and view of each."""
        return [
            ("/labs", "GET", self.labs),
            ("/elsewhere", "GET", self.elsewhere),
            ("/labs/<lab>", "GET", self.lab),
            ("/labs/<lab>", "PUT", self.put_lab),
            ("/labs/<lab>/file", "GET", self.lab_file),
            ("/labs/<lab>", "DELETE", self.destroy_lab),
            ("/labs/<lab>/down", "POST", self.down_lab),
            ("/labs/<lab>/adoption", "PUT", self.adopt),
            ("/labs/<lab>/adoption/seeds/<node>", "GET", self.adoption_seed),
            ("/labs/<lab>/adoption/finish", "POST", self.finish_adoption),
            ("/labs/<lab>/cancel", "POST", self.cancel),
            ("/labs/<lab>/plan", "GET", self.plan),
            ("/labs/<lab>/plan", "POST", self.plan_of_file),
            ("/labs/<lab>/groups/<group>", "PATCH", self.patch_group),
        ]

    def labs(self) -> Answer:
        check_admin()
        return {"labs": encode(self.manager.labs())}

    def elsewhere(self) -> Answer:
        check_admin()
        return {"labs": encode(self.manager.view.elsewhere())}

    def lab(self, lab: str) -> Answer:
        return dict(encode(self.manager.lab(self.own(lab))))

    def lab_file(self, lab: str) -> Answer:
        check_admin()
        return dict(self.core.labs.get(check_name(lab, "lab")).spec.file)

    def put_lab(self, lab: str) -> Answer:
        check_admin()
        run = self.manager.put(check_name(lab, "lab"), json_body())
        return {"lab": lab, "run": run}, 202

    def destroy_lab(self, lab: str) -> Answer:
        check_admin()
        return {"lab": lab, "run": self.manager.destroy(lab)}, 202

    def down_lab(self, lab: str) -> Answer:
        check_admin()
        return {"lab": lab, "run": self.manager.down(lab)}, 202

    def adopt(self, lab: str) -> Answer:
        check_admin()
        wish = body(AdoptionRequest)
        nodes = self.manager.adoptions.adopt(check_name(lab, "lab"), wish.file, wish.machines)
        return {"lab": lab, "nodes": encode(nodes)}

    def adoption_seed(self, lab: str, node: str) -> flask.Response:
        check_admin()
        seed = self.manager.adoptions.seed(lab, check_name(node, "node"))
        return flask.Response(seed, content_type="application/x-tar")

    def finish_adoption(self, lab: str) -> Answer:
        check_admin()
        return {"lab": lab, "run": self.manager.adoptions.finish(lab)}, 202

    def cancel(self, lab: str) -> Answer:
        check_admin()
        self.manager.cancel(lab)
        return {"lab": lab}

    def plan(self, lab: str) -> Answer:
        check_admin()
        return {"lab": lab, "steps": encode(self.manager.plan(lab))}

    def plan_of_file(self, lab: str) -> Answer:
        check_admin()
        return {"lab": lab, "steps": encode(self.manager.plan(check_name(lab, "lab"), json_body()))}

    def patch_group(self, lab: str, group: str) -> Answer:
        self.own_changed(lab)
        wish = body(GroupRequest)
        return dict(encode(self.manager.set_group(lab, group, wish.desired_count, wish.mode)))
