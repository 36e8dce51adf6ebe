"""The two files a demo leaves."""

import json
from pathlib import Path

import pytest

from labcore.codec import decode
from labcore.errors import UsageProblem
from labctl.demo import output
from labctl.report.page import render
from labctl.report.recording import Recording
from tests.report import made_up


def test_the_page_can_be_made_again_from_the_json_beside_it(tmp_path: Path):
    page, beside = output.write(made_up.recording(), tmp_path / "r.html")
    data = json.loads(beside.read_text())
    assert beside == tmp_path / "r.json"
    assert (data["requests_sent"], data["requests_failed"]) == (1900, 0)
    assert (data["scale_out"], data["scale_in"], data["seconds"]) == (1, 1, made_up.END)
    assert render(decode(Recording, data["recording"])) == page.read_text()


@pytest.mark.parametrize("name", ["r.txt", "r", "no/such/r.html"])
def test_where_no_report_can_be_written(tmp_path: Path, name: str):
    with pytest.raises(UsageProblem, match="--report"):
        output.check_path(tmp_path / name)


def test_a_folder_is_no_place_for_a_report(tmp_path: Path):
    (tmp_path / "r.html").mkdir()
    with pytest.raises(UsageProblem, match="--report"):
        output.check_path(tmp_path / "r.html")
