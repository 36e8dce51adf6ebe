"""`labctl simulate` as it is typed."""

import json
import xml.etree.ElementTree as ET

import pytest

from labctl.cli.main import main
from labctl.simulate.command import Plan
from tests.simulate.test_model import hill
from tests.simulate.test_replay import RECORD, write

KEYS = [
    "policy",
    "boot_s",
    "above_target_percent",
    "lost_percent",
    "theta_under",
    "theta_over",
    "tau_under_percent",
    "tau_over_percent",
    "flaps",
    "node_hours",
    "ideal_node_hours",
]


@pytest.fixture
def trace(tmp_path):
    return str(hill(tmp_path / "trace.csv"))


def test_json_rows(trace, capsys):
    names = ("threshold", "predictive", "brief")
    policies = [word for name in names for word in ("--policy", name)]
    assert main(["simulate", "--trace", trace, *policies, "--boot-s", "5", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [list(row) for row in rows] == [KEYS] * 3
    assert [row["policy"] for row in rows] == list(names)
    assert {row["boot_s"] for row in rows} == {5.0}


def test_a_table_for_people(trace, capsys):
    assert main(["simulate", "--trace", trace]) == 0
    table, drawing = capsys.readouterr().out.split("\n\n")
    lines = table.splitlines()
    assert "\x1b" not in table + drawing
    assert max(map(len, (*lines, *drawing.splitlines()))) <= 80
    assert [line.split()[0] for line in lines] == [
        "policy",
        "threshold",
        "memory",
        "brief",
        "target",
        "predictive",
    ]
    assert len({len(line) for line in lines}) == 1


ROWS = '[{"from":"11:00","to":"14:00","count":9},{"from":"14:00","to":"15:00","count":3}]'
FILE = f"""\
lab: class
scaling: {{policy: schedule, max: 9, interval_s: 30, options: {{rows: {ROWS}, timezone: UTC}}}}
"""


def test_a_timetable_on_the_command_line_or_in_a_lab_file(trace, tmp_path, capsys):
    file = tmp_path / "lab.yaml"
    file.write_text(FILE)
    policies = (f"schedule:timezone=UTC,rows={ROWS}", str(file), "schedule:rows=[]")
    words = [word for name in policies for word in ("--policy", name)]
    assert main(["simulate", "--trace", trace, *words, "-o", "json"]) == 0
    typed, filed, least = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in (typed, filed, least)] == list(policies)
    assert {**typed, "policy": ""} == {**filed, "policy": ""}
    assert typed["node_hours"] > least["node_hours"]


def test_a_lab_file_with_two_scaled_groups(trace, tmp_path, capsys):
    file = tmp_path / "two.yaml"
    file.write_text(
        "lab: two\ngroups:\n"
        "  - {name: control, role: control, count: 1, services: [nginx, scaler]}\n"
        "  - {name: west, role: agent, count: 2, scaling: {min: 1, max: 4, policy: target}}\n"
        "  - {name: east, role: agent, count: 2, scaling: {min: 1, max: 4}}\n"
        "balancers: [{group: control, routes: [{path: /, to: west}, {path: /e, to: east}]}]\n"
    )
    assert main(["simulate", "--trace", trace, "--policy", f"{file}:west", "-o", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
    assert main(["simulate", "--trace", trace, "--policy", str(file)]) == 2
    assert "it scales: west, east" in capsys.readouterr().err
    assert main(["simulate", "--trace", trace, "--policy", f"{file}:north"]) == 3


def test_memory_is_the_one_of_the_brief():
    scaling = Plan(policies=("memory",)).scalings()["memory"]
    assert (scaling.policy, scaling.evaluation_periods) == ("memory", 3)
    assert (scaling.cooldown_out_s, scaling.cooldown_in_s) == (300.0, 600.0)
    assert (scaling.out_above, scaling.in_below) == (
        {"memory_percent": 80.0},
        {"memory_percent": 30.0},
    )


def test_a_plot(trace, tmp_path):
    plot = tmp_path / "runs.svg"
    assert main(["simulate", "--trace", trace, "--policy", "brief", "--plot", str(plot)]) == 0
    root = ET.fromstring(plot.read_text())  # noqa: S314 - we wrote it
    texts = ["".join(element.itertext()) for element in root.iter() if "text" in element.tag]
    assert any("brief" in text for text in texts)
    assert "href" not in plot.read_text()


def test_replay(tmp_path, capsys):
    path = write(tmp_path / "events.json", RECORD)
    assert main(["simulate", "--replay", str(path), "--policy", "manual", "-o", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["count"] for row in rows] == [2, 2, 3, 3]


@pytest.mark.parametrize("words", [[], ["--trace", "a.csv", "--replay", "b.json"]])
def test_one_of_the_two(words, capsys):
    assert main(["simulate", *words]) == 2
    assert "either --trace or --replay" in capsys.readouterr().err


def test_no_such_trace(capsys):
    assert main(["simulate", "--trace", "no.csv"]) == 3
