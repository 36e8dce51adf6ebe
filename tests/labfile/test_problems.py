"""Wrong lab files, and exactly what is said about each."""

import pytest

from labcore.errors import NotFound, UsageProblem
from server_manager import labfile

NAME = "a small letter, then up to 30 small letters, digits or hyphens"
CONTROL = "{name: control, role: control}"


def problems(text: str, *sets: str) -> list[str]:
    with pytest.raises(UsageProblem) as caught:
        labfile.parse(text, "lab.yaml", sets)
    assert caught.value.exit_code == 2
    return list(caught.value.details) or [caught.value.message]


FIELDS = [
    ("", f"lab: missing (allowed: {NAME})"),
    ("lab: Demo", f"lab: got 'Demo' (allowed: {NAME})"),
    ("lab: 7", f"lab: got 7 (allowed: {NAME})"),
    (f"lab: {'a' * 32}", f"lab: got '{'a' * 32}' (allowed: {NAME})"),
    ("lab: d\ndriver: aws", "driver: got 'aws' (allowed: auto, local, virtualbox, incus, fake)"),
    (
        "lab: d\nscalling: {}",
        "scalling: unknown field"
        " (allowed: lab, driver, groups, scaling, balancers, regions, app, image, network,"
        " boot_limit_s, incus)",
    ),
    ("lab: d\nscaling: {max: 100}", "scaling.max: got 100 (allowed: a whole number from 1 to 99)"),
    ("lab: d\nscaling: {min: -1}", "scaling.min: got -1 (allowed: a whole number from 0 to 99)"),
    (
        'lab: d\nscaling: {min: "2"}',
        "scaling.min: got '2' (allowed: a whole number from 0 to 99)",
    ),
    (
        "lab: d\nscaling: {min: true}",
        "scaling.min: got true (allowed: a whole number from 0 to 99)",
    ),
    (
        "lab: d\nscaling: {interval_s: 0}",
        "scaling.interval_s: got 0 (allowed: a number above 0, at most 3600)",
    ),
    (
        "lab: d\nscaling: {drain_s: .inf}",
        "scaling.drain_s: got inf (allowed: a number from 0 to 3600)",
    ),
    ("lab: d\nscaling: {mode: off}", "scaling.mode: got false (allowed: auto, manual)"),
    (
        "lab: d\nscaling: {out: {CPU: 1}}",
        "scaling.out.CPU: not a name of a metric (allowed: small letters, digits and underscores)",
    ),
    ("lab: d\nscaling: {out: {a: -1}}", "scaling.out.a: got -1 (allowed: a number, 0 or more)"),
    ("lab: d\ngroups: []", "groups: got [] (allowed: a list, not empty)"),
    ("lab: d\ngroups: {}", "groups: got {} (allowed: a list, not empty)"),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: a, count: -2}}]",
        "groups[1].count: got -2 (allowed: a whole number from 0 to 99)",
    ),
    ("lab: d\napp: {port: 70000}", "app.port: got 70000 (allowed: a whole number from 1 to 65535)"),
    ("lab: d\napp: {env: {A: 1}}", "app.env.A: got 1 (allowed: text)"),
    ("lab: d\nnetwork: wifi", "network: got 'wifi' (allowed: internal, nat)"),
    (
        "lab: d\nbalancers: [{group: control, tls: yes, port: 0, routes: [{path: x, to: agent}]}]",
        "balancers[0].port: got 0 (allowed: a whole number from 1 to 65535)",
    ),
]

RELATIONS = [
    ("lab: d\nscaling: {min: 6}", "scaling.min: 6 is more than max (allowed: at most 5)"),
    (
        "lab: d\nscaling: {max: 98, standby: 2}",
        "scaling.standby: 2 and max 98 are too many together (allowed: 99 together)",
    ),
    (
        "lab: d\nscaling: {in: {cpu_percent: 70}}",
        "scaling.in.cpu_percent: got 70 (allowed: less than out, 70)",
    ),
    (
        "lab: d\nscaling: {out: {cpu_percent: 101}}",
        "scaling.out.cpu_percent: got 101 (allowed: a number from 0 to 100)",
    ),
    (
        "lab: d\nscaling: {group: nobody}",
        "scaling.group: there is no group 'nobody' (allowed: agent)",
    ),
    (
        f"lab: d\nscaling: {{}}\ngroups: [{CONTROL}, {{name: a}}, {{name: b}}]",
        "scaling.group: does not say which group it is about (allowed: a, b)",
    ),
    (
        f"lab: d\nscaling: {{group: a}}\ngroups: [{CONTROL}, {{name: a, scaling: {{}}}}]",
        "scaling.group: group 'a' has its own scaling (allowed: one of the two)",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: a, scaling: {{group: b}}}}]",
        "groups[1].scaling.group: is only for the top level (allowed: leave it out)",
    ),
    (
        "lab: d\nscaling: {group: control}",
        "scaling: group 'control' has the role control (allowed: a group of agents)",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent, services: [app]}}]",
        "groups[1].services: a group that is scaled needs the service 'metrics'",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent, count: 9}}]",
        "groups[1].count: 9 is not within min and max (allowed: 2 to 5)",
    ),
    (
        "lab: d\ngroups: [{name: control, role: control, count: 2}, {name: agent}]",
        "groups[0].count: a control group with 2 nodes (allowed: 1)",
    ),
    (
        "lab: d\ngroups: [{name: agent}]",
        "groups: no group has the role control (allowed: one at least)",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent}}, {{name: control, role: control}}]",
        "groups[2].name: there are two groups named 'control'",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent}}, {{name: agent-1}}]",
        "groups[2].name: 'agent-1' would be the name of a node of another group",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent}}, {{name: {'a' * 29}}}]",
        f"groups[2].name: '{'a' * 29}' leaves no room for the number of a node"
        " (allowed: 28 letters at most)",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent, services: [metrics, web]}}]",
        "groups[1].services[1]: unknown service 'web' (allowed: nginx, scaler, metrics, app)",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent, services: [metrics, metrics]}}]",
        "groups[1].services[1]: 'metrics' stands twice",
    ),
    (
        "lab: d\ngroups: [{name: control, role: control, services: [scaler]}, {name: agent}]",
        "groups[0].services[0]: 'scaler' needs 'nginx' on the same node",
    ),
    (
        f"lab: d\ngroups: [{CONTROL}, {{name: agent, region: mars}}]\nregions: [{{name: earth}}]",
        "groups[1].region: there is no region 'mars' (allowed: earth)",
    ),
    (
        "lab: d\nregions: [{name: a, links: {b: {}}}, {name: a}]",
        "regions[0].links.b: there is no other region 'b'",
    ),
    (
        "lab: d\nregions: [{name: a, links: {a: {}}}, {name: b}]",
        "regions[0].links.a: there is no other region 'a' (allowed: b)",
    ),
    (
        "lab: d\nbalancers: [{group: gate, routes: [{to: agent}]}]",
        "balancers[0].group: there is no group 'gate' (allowed: control, agent)",
    ),
    (
        "lab: d\nbalancers: [{group: agent, routes: [{to: agent}]}]",
        "balancers[0].group: group 'agent' has no service 'nginx'",
    ),
    (
        "lab: d\nbalancers: [{group: control, routes: [{to: agent}, {to: nobody}]}]",
        "balancers[0].routes[1].to: there is no group 'nobody' (allowed: control, agent)",
    ),
    (
        "lab: d\nbalancers: [{group: control, routes: [{to: agent}, {to: agent}]}]",
        "balancers[0].routes[1].path: '/' stands twice",
    ),
    (
        "lab: d\nbalancers: [{group: control, routes: [{to: agent}]},"
        " {group: control, port: 81, routes: [{to: agent}]}]",
        "balancers[1].name: there are two balancers named 'control'",
    ),
    (
        "lab: d\napp: {command: a, image: b}",
        "app.image: there is a command too (allowed: one of the two)",
    ),
    (
        "lab: d\ndriver: local\napp: {image: b}",
        "app.image: driver local runs no containers (allowed: a command)",
    ),
    (
        'lab: d\napp: {command: "say \'hello"}',
        "app.command: cannot be split into words: No closing quotation",
    ),
    (
        "lab: d\napp: {env: {'A B': x}}",
        "app.env.A B: not a name of an environment variable"
        " (allowed: letters, digits and underscores)",
    ),
    (
        "lab: d\napp: {env: {A: 'secret:../x'}}",
        "app.env.A: got 'secret:../x' (allowed: secret:NAME, of small letters, digits, hyphens)",
    ),
]


@pytest.mark.parametrize(("text", "problem"), FIELDS + RELATIONS)
def test_a_wrong_file_says_where_and_what_is_allowed(text: str, problem: str):
    assert problem in problems(text)


def test_every_problem_is_told_at_once():
    text = """
lab: Demo
driver: cloud
groups:
  - {name: control, role: control, memory: 5}
  - {name: agent, cpus: none, services: [metrics, web]}
scaling: {min: 6, max: 5, drain_s: long}
balancers: [{group: gate, routes: [{to: agent}]}]
app: {port: 0, command: a, image: b}
"""
    places = [problem.split(":")[0] for problem in problems(text)]
    assert places == [
        "lab",
        "driver",
        "groups[0].memory",
        "groups[1].cpus",
        "scaling.drain_s",
        "app.port",
        "groups[1].services[1]",
        "scaling.min",
        "balancers[0].group",
        "app.image",
    ]


def test_a_wrong_field_raises_no_second_problem_about_what_depends_on_it():
    assert problems("lab: d\nscaling: {min: 4, max: few}") == [
        "scaling.max: got 'few' (allowed: a whole number from 1 to 99)"
    ]


def test_the_number_of_problems_is_in_the_message():
    with pytest.raises(UsageProblem, match=r"^lab\.yaml: 2 problems$"):
        labfile.parse("lab: D\nscaling: {min: 9}", "lab.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lab: a\nlab: b", "lab.yaml:2:1: key 'lab' stands twice"),
        ("lab: a\nscaling: {min: 1, min: 2}", "lab.yaml:2:19: key 'min' stands twice"),
        ("lab: a\n1: b", "lab.yaml:2:1: key 1 is not text: put it in quotes"),
        ("lab: [a", "lab.yaml:1:8: expected ',' or ']', but got '<stream end>'"),
        ("lab: !!python/object:os.system x", "lab.yaml:1:6: could not determine a constructor"),
        ("- a", "lab.yaml: expected a mapping like 'lab: demo'"),
    ],
)
def test_bad_yaml_is_refused_with_its_line(text: str, message: str):
    assert problems(text)[0].startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scaling.min", "--set 'scaling.min' is not path=value"),
        ("=3", "--set '=3' is not path=value"),
        ("a..b=1", "--set 'a..b=1' is not path=value"),
        ("groups.nobody.cpus=1", "--set: there is no groups.nobody"),
        ("groups[7].cpus=1", "--set: there is no groups[7]"),
        ("groups.nobody=1", "--set: groups has no member 'nobody'"),
        ("scaling.min=[", "--set scaling.min:1:2: expected the node content"),
        ("scaling.min=many", "scaling.min: got 'many' (allowed: a whole number from 0 to 99)"),
        ("scaling.speed=1", "scaling.speed: unknown field (allowed: group, mode, min, max"),
    ],
)
def test_a_bad_override_is_refused(override: str, message: str):
    assert problems("lab: d", override)[0].startswith(message)


def test_a_missing_file_names_init(tmp_path):
    with pytest.raises(NotFound) as caught:
        labfile.load(tmp_path / "lab.yaml")
    assert "labctl init" in caught.value.hint


@pytest.mark.parametrize("data", [None, [], "demo", 3])
def test_a_body_that_is_no_mapping_is_refused(data: object):
    with pytest.raises(UsageProblem):
        labfile.validate(data)


def test_what_two_groups_share_is_said_once():
    agents = "{name: agent}, {name: agent, memory_mib: 0}"
    assert problems(f"lab: d\ngroups: [{CONTROL}, {agents}]\nscaling: {{min: 5, max: 3}}") == [
        "groups[2].memory_mib: got 0 (allowed: a whole number from 16 to 1048576)",
        "groups[2].name: there are two groups named 'agent'",
        "scaling.min: 5 is more than max (allowed: at most 3)",
    ]


@pytest.mark.parametrize("text", ["lab: " + "[" * 20000, "lab: " + "x" * 200_000])
def test_what_no_person_wrote_is_refused_quickly(text: str):
    (said,) = problems(text)
    assert said.startswith("lab.yaml: ")
