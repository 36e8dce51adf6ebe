"""The page: self-contained, escaped, and drawable again from its JSON."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from labcore.codec import decode, encode
from labcore.wire.event import EventKind
from labcore.wire.scaler import Action
from labctl.report.page import render
from labctl.report.recording import Mark, NodePoint, Recording, Sample
from tests.report import made_up

EVIL = "<script>alert('x')</script>\"'&"


class Reader(HTMLParser):
    """Collects what would be executed or loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "action") or name.startswith("on")
        ]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def drawings(page: str) -> list[ET.Element]:
    found = re.findall(r'<svg viewBox="0 0 1200.*?</svg>', page, re.DOTALL)
    return [ET.fromstring(text) for text in found]  # noqa: S314 - our own text


@pytest.mark.parametrize("recording", [made_up.recording(), made_up.recording(7, "no luck")])
def test_the_page_loads_nothing_and_runs_nothing(recording: Recording):
    page = render(recording)
    reader = read(page)
    assert reader.links == []
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "@import" not in page
    assert set(re.findall(r"url\((.*?)\)", page)) <= {"#booting", "#draining"}


def test_four_drawings_that_are_well_formed():
    assert len(drawings(render(made_up.recording()))) == 4


def test_every_text_is_escaped():
    whole = made_up.recording(problem=EVIL)
    assert whole.load is not None
    load = dataclasses.replace(
        whole.load, url=EVIL, method=EVIL, failures={EVIL: 1}, backends={EVIL: 1}
    )
    sample = Sample(made_up.at(20), 2, 2, (NodePoint(EVIL, EVIL, True, 5.0),))
    evil = dataclasses.replace(
        whole,
        title=EVIL,
        lab=EVIL,
        driver=EVIL,
        settings=(EVIL,),
        machine={EVIL: EVIL},
        load=load,
        samples=(*whole.samples, sample),
        marks=(Mark(made_up.at(1), "x", EVIL),),
        events=(
            *whole.events,
            made_up.decided(30, Action.OUT, 3, 4, EVIL),
            made_up.event(31, EventKind.GATE, EVIL, EVIL),
        ),
    )
    page = render(evil)
    assert "script" not in read(page).tags
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 12
    assert len(drawings(page)) == 4


def test_the_page_can_be_made_again_from_its_json():
    whole = made_up.recording(3, "x")
    again = decode(Recording, json.loads(json.dumps(encode(whole))))
    assert again == whole
    assert render(again) == render(whole)


def test_the_decisions_are_numbered_marks_with_their_reasons():
    page = render(made_up.recording())
    titles = [element.text or "" for d in drawings(page) for element in d.iter("title")]
    assert "1. 0:21 out from 2 to 3: average CPU 86.3 % is above 70 %" in titles
    assert page.count("average CPU 86.3 % is above 70 %") >= 5  # four charts and the list


def test_a_lost_request_is_seen():
    (requests,) = [d for d in drawings(render(made_up.recording(1))) if "1 of" in texts(d)]
    assert "1 of 40 requests failed" in texts(requests)


def texts(drawing: ET.Element) -> str:
    return " ".join(drawing.itertext())


@pytest.mark.parametrize(
    ("recording", "verdict"),
    [
        (made_up.recording(), "1 agent joined, 1 agent left, 0 of 1,900 requests lost."),
        (
            dataclasses.replace(made_up.recording(), events=(), load=None),
            "No agent joined, no agent left, 0 of 0 requests lost.",
        ),
    ],
)
def test_the_verdict(recording: Recording, verdict: str):
    assert verdict in render(recording)


def test_a_run_of_no_length_has_a_page():
    whole = made_up.recording(problem="the lab did not come up")
    bare = dataclasses.replace(
        whole, events=(), samples=(), marks=(), load=None, ended_at=whole.began_at
    )
    assert "the lab did not come up" in render(bare)
