"""What a right lab file means: defaults, overrides, the way to the wire and back."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_node.policies import POLICIES
from labcore.errors import UsageProblem
from labcore.services import CATALOGUE
from labcore.wire.lab import Balancer, Route, Scaling
from server_manager import labfile

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("examples/*.yaml"), *ROOT.glob("labctl/blueprints/*.yaml")])
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z]", fullmatch=True)


def parse(text: str, *sets: str) -> labfile.LabFile:
    return labfile.parse(text, "lab.yaml", sets)


def test_a_name_alone_is_a_lab_with_the_defaults_of_the_contract():
    topology = labfile.to_wire(parse("lab: demo"))
    control, agent = topology.groups
    assert (control.name, control.role, control.desired_count) == ("control", "control", 1)
    assert (control.services, control.scaling) == (("nginx", "scaler"), None)
    assert (agent.name, agent.role, agent.desired_count) == ("agent", "agent", 2)
    assert (agent.services, agent.mode) == (("metrics", "app"), "auto")
    assert (agent.cpus, agent.memory_mib) == (1.0, 512)
    assert agent.scaling == Scaling()
    assert topology.balancers == (Balancer("control", "control", (Route("/", "agent"),)),)
    assert topology.services["agent"] == (CATALOGUE["metrics"], CATALOGUE["app"])


def test_the_file_of_the_contract_is_the_same_lab_as_its_name_alone():
    written = parse(
        """
lab: demo
driver: auto
groups:
  - {name: control, role: control, count: 1, cpus: 1, memory_mib: 512, services: [nginx, scaler]}
  - {name: agent, role: agent, count: 2, cpus: 1, memory_mib: 512, services: [metrics, app]}
scaling:
  group: agent
  mode: auto
  min: 2
  max: 5
  interval_s: 10
  policy: threshold
  out: {cpu_percent: 70, memory_percent: 80}
  in: {cpu_percent: 30, memory_percent: 40}
  cooldown_out_s: 30
  cooldown_in_s: 60
  evaluation_periods: 1
  drain_s: 30
  standby: 0
app: {command: null, image: null, port: 5000, env: {}}
"""
    )
    assert labfile.to_wire(written) == labfile.to_wire(parse("lab: demo"))


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("scaling.min=3", ("scaling", "min"), 3),
        ("scaling.interval_s=0.5", ("scaling", "interval_s"), 0.5),
        ("scaling.mode=manual", ("scaling", "mode"), "manual"),
        ("groups.agent.cpus=0.25", ("groups", 1, "cpus"), 0.25),
        ("groups[0].memory_mib=256", ("groups", 0, "memory_mib"), 256),
        ("app.env.DEBUG='1'", ("app", "env", "DEBUG"), "1"),
        ("app.command=node server.js --a=b", ("app", "command"), "node server.js --a=b"),
        ("groups.agent.services=[metrics]", ("groups", 1, "services"), ["metrics"]),
        ("lab=other", ("lab",), "other"),
    ],
)
@pytest.mark.parametrize(
    "text", ["lab: demo", (ROOT / "labctl/blueprints/autoscale.yaml").read_text()]
)
def test_set_overrides_any_field(text: str, override: str, path: tuple[Any, ...], value: object):
    found: Any = labfile.to_json(parse(text, override))
    for step in path:
        found = found[step]
    assert found == value


def test_one_threshold_can_be_set_without_losing_the_others():
    lab = parse("lab: demo", "scaling.out.cpu_percent=50")
    scaling = labfile.to_wire(lab).groups[1].scaling
    assert scaling is not None
    assert scaling.out_above == {"cpu_percent": 50.0, "memory_percent": 80.0}


def test_overrides_do_not_leak_into_the_next_file():
    parse("lab: demo", "scaling.out.cpu_percent=50", "groups.agent.cpus=0.5")
    assert labfile.to_wire(parse("lab: demo")).groups[1].scaling == Scaling()
    assert labfile.to_wire(parse("lab: demo")).groups[1].cpus == 1.0


def test_a_group_without_a_count_begins_at_its_minimum():
    assert labfile.to_wire(parse("lab: demo", "scaling.min=4")).groups[1].desired_count == 4


def test_scaling_null_makes_a_lab_of_fixed_size():
    agent = labfile.to_wire(parse("lab: demo\nscaling: null")).groups[1]
    assert (agent.scaling, agent.mode, agent.desired_count) == (None, "manual", 1)


def test_groups_may_each_have_their_own_scaling():
    lab = parse((ROOT / "examples/two-groups.yaml").read_text())
    groups = {group.name: group for group in labfile.to_wire(lab).groups}
    assert groups["web"].scaling is not None
    assert groups["web"].scaling.max == 4
    assert (groups["api"].mode, groups["web"].mode) == ("manual", "auto")
    assert groups["control"].scaling is None


def test_the_only_group_of_agents_is_scaled_whatever_its_name():
    text = "lab: d\ngroups: [{name: c, role: control}, {name: worker}]\nscaling: {max: 7}"
    control, worker = labfile.to_wire(parse(text)).groups
    assert worker.scaling is not None
    assert (worker.scaling.max, control.scaling) == (7, None)


def test_a_command_takes_the_place_of_the_demo_app():
    lab = parse("lab: d\napp: {command: node 'my server.js', port: 8000, env: {A: b}}")
    app = labfile.to_wire(lab).services["agent"][1]
    assert app.argv == ("node", "my server.js")
    assert (app.port, app.host_port, app.health_path) == (
        8000,
        CATALOGUE["app"].host_port,
        "/health",
    )
    assert app.env == {"PORT": "{port}", "HOST": "{host}", "A": "b"}
    assert not app.own_files


def test_an_image_takes_the_place_of_the_demo_app_and_its_env_stands_in_no_argv():
    lab = parse("lab: d\ndriver: fake\napp: {image: localhost/mine:2, env: {A: b c}}")
    app = labfile.to_wire(lab).services["agent"][1]
    assert app.container
    assert app.argv[0] == "{podman}"
    assert app.argv[-1] == "localhost/mine:2"
    assert "--env=A" in app.argv
    assert not any("b c" in word for word in app.argv)
    assert app.env["A"] == "b c"


@pytest.mark.parametrize("image", ["--privileged", "a b", "Upper", "", "x;y"])
def test_an_image_is_a_name_and_nothing_else(image):
    with pytest.raises(UsageProblem) as refused:
        parse(f"lab: d\ndriver: fake\napp: {{image: '{image}'}}")
    assert "app.image" in refused.value.details[0]


def test_env_reaches_the_demo_app_and_names_the_secrets_it_needs():
    lab = parse("lab: d\napp: {env: {A: b, KEY: 'secret:api-key', AGAIN: 'secret:api-key'}}")
    app = labfile.to_wire(lab).services["agent"][1]
    assert app.argv == CATALOGUE["app"].argv
    assert app.env["A"] == "b"
    assert app.secrets == ("api-key",)


def test_the_first_region_is_that_of_groups_without_one():
    text = "lab: d\nregions: [{name: eu}, {name: us}]"
    assert {group.region for group in labfile.to_wire(parse(text)).groups} == {"eu"}
    assert {group.region for group in labfile.to_wire(parse("lab: d")).groups} == {"main"}


def test_the_policies_are_those_that_the_scaler_has():
    policies = labfile.json_schema()["$defs"]["Scaling"]["properties"]["policy"]["enum"]
    assert policies == list(POLICIES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_we_ship_is_valid(path: Path):
    lab = labfile.load(path)
    assert labfile.validate(labfile.to_json(lab)) == labfile.validate(labfile.to_json(lab))
    assert labfile.to_wire(labfile.validate(labfile.to_json(lab))) == labfile.to_wire(lab)


def test_the_schema_knows_every_field_of_the_files_we_ship():
    schema = labfile.json_schema()
    for path in FILES:
        assert set(labfile.to_json(labfile.load(path))) <= set(schema["properties"])
    assert schema["required"] == ["lab"]
    assert "in" in schema["$defs"]["Scaling"]["properties"]


@st.composite
def labs(draw: st.DrawFn) -> dict[str, Any]:
    """Right lab files of many shapes."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    least = draw(st.integers(0, 50))
    most = draw(st.integers(max(least, 1), 99))
    top = {
        "group": names[0],
        "min": least,
        "max": most,
        "mode": draw(st.sampled_from(["auto", "manual"])),
        "interval_s": draw(st.floats(0.1, 3600)),
        "out": {"cpu_percent": draw(st.floats(51, 100))},
        "in": {"cpu_percent": draw(st.floats(0, 50))},
        "standby": draw(st.integers(0, 99 - most)),
    }
    groups: list[dict[str, Any]] = [{"name": "c0", "role": "control"}]
    for name in names:
        groups.append({"name": f"{name}", "cpus": draw(st.floats(0.01, 64))})
    return {"lab": draw(NAMES), "groups": groups, "scaling": top}


@given(labs())
def test_what_is_written_back_is_the_same_lab(data: dict[str, Any]):
    lab = labfile.validate(data)
    again = labfile.validate(labfile.to_json(lab))
    assert labfile.to_json(again) == labfile.to_json(lab)
    assert labfile.to_wire(again) == labfile.to_wire(lab)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["lab", "groups", "scaling", "name", "role", "min", "app", "env", "x"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_anything_is_either_a_lab_file_or_a_usage_problem(data: object):
    with contextlib.suppress(UsageProblem):
        labfile.to_wire(labfile.validate(data))
