"""The simulator against cases worked out by hand."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from control_node.policies import Action
from labcore.errors import LabError, NotFound, UsageProblem
from labcore.wire.lab import Scaling
from labctl.simulate.command import Plan, load_demand, scores
from labctl.simulate.model import Run, World, simulate
from labctl.simulate.score import flaps, ideal, score
from labctl.simulate.trace import Demand, Trace, demand, peak, read_trace
from labctl.simulate.variants import DEFAULTS

BEGIN = datetime(1998, 6, 10, 10, 0, tzinfo=UTC)
EXACT = World(boot_s=20.0, noise=0.0)
SCALING = Scaling(min=2, max=10, cooldown_out_s=0.0)


def constant(*work: float) -> Demand:
    return Demand(work, tuple(BEGIN + timedelta(minutes=i) for i in range(len(work))))


def write(path, rows):
    lines = [f"{BEGIN + timedelta(minutes=i):%Y-%m-%d %H:%M:%S},{n}" for i, n in enumerate(rows)]
    path.write_text("\n".join(["minute_utc,requests", *lines, ""]))
    return path


def hill(path):
    """Four hours of a day: quiet, a steep hill, quiet."""
    return write(path, [100] * 60 + [100 + 15 * i for i in range(60)] + [1000] * 60 + [100] * 60)


def test_a_tiny_case_by_hand():
    """Ticks of 10 s, a boot of 20 s, no noise, threshold without a cooldown outwards.

    tick      0    1    2    3    4    5
    work     1.6  1.6  1.6  1.6  1.6  1.6
    seen      -   80   80   80  80 %, 53 %
    serving   2    2    2    3    3    3    (asked for at tick 1, serves at tick 3)
    running   2    3    3    3    3    3
    """
    work = constant(*[1.6] * 6)
    run = simulate(SCALING, work, EXACT)
    assert run.serving == [2, 2, 2, 3, 3, 3]
    assert run.running == [2, 3, 3, 3, 3, 3]
    assert run.changes == [(10.0, Action.OUT)]
    row = score("threshold", run, work, SCALING, EXACT)
    assert row.above_target_percent == pytest.approx(50.0)  # 1.6 / 2 = 80 % on three of six
    assert row.lost_percent == 0.0
    assert row.theta_under == pytest.approx(100 * (3 * 1 / 3) / 6)  # 3 needed, 2 there
    assert row.tau_under_percent == pytest.approx(50.0)
    assert row.theta_over == row.tau_over_percent == 0.0
    assert row.node_hours == pytest.approx(17 * 10 / 3600)
    assert row.ideal_node_hours == pytest.approx(18 * 10 / 3600)


def test_work_above_all_nodes_is_lost():
    work = constant(3.0, 3.0)
    row = score("x", simulate(SCALING, work, EXACT), work, SCALING, EXACT)
    assert row.lost_percent == pytest.approx(100 * 2 / 6)


def test_removal_is_at_once_and_booting_nodes_go_first():
    scaling = Scaling(min=2, max=10, cooldown_out_s=0.0, cooldown_in_s=0.0)
    work = constant(1.6, 1.6, *[0.1] * 4)
    run = simulate(scaling, work, dataclasses.replace(EXACT, boot_s=100.0))
    assert run.running == [2, 3, 3, 2, 2, 2]  # metrics are one tick old
    assert run.serving == [2] * 6


def test_flaps_are_reversals_within_ten_minutes():
    out, inwards = Action.OUT, Action.IN
    assert flaps([(0.0, out), (10.0, out), (600.0, inwards), (1201.0, out)]) == 1
    assert flaps([(0.0, out), (600.0, inwards), (1200.0, out)]) == 2
    assert flaps([]) == 0


@pytest.mark.parametrize(("work", "nodes"), [(0.0, 2), (1.4, 2), (1.41, 3), (4.9, 7), (20.0, 10)])
def test_ideal(work, nodes):
    assert ideal(work, 0.7, SCALING) == nodes


def test_the_peak_is_the_999th_minute_of_1000():
    trace = Trace((BEGIN,) * 1000, tuple(float(n) for n in range(1, 1001)))
    assert peak(trace) == 999.0


def test_demand_runs_straight_between_minutes():
    trace = Trace((BEGIN, BEGIN + timedelta(minutes=1)), (60.0, 120.0))
    found = demand(trace, node_requests=60.0, speed=1.0, interval_s=10.0)
    assert found.work == pytest.approx((1.0, 7 / 6, 8 / 6, 1.5, 10 / 6, 11 / 6))
    assert found.at[3] == BEGIN + timedelta(seconds=30)


def test_faster_replay_takes_fewer_ticks(tmp_path):
    path = hill(tmp_path / "trace.csv")
    assert [len(load_demand(Plan(speed=s), path).work) for s in (1.0, 6.0)] == [239 * 6, 239]
    assert max(load_demand(Plan(peak_nodes=4), path).work) == pytest.approx(4 * 0.7)


def test_the_seed_decides_the_noise_and_nothing_else_does(tmp_path):
    work = load_demand(Plan(), hill(tmp_path / "trace.csv"))

    def serving(seed: int, noise: float = 0.05) -> list[int]:
        return simulate(Scaling(max=10), work, World(seed=seed, noise=noise)).serving

    assert serving(1) == serving(1)
    assert serving(1, 0.3) != serving(2, 0.3)


def test_every_policy_meets_the_same_demand(tmp_path):
    rows = scores(Plan(), hill(tmp_path / "trace.csv"))
    assert [row.policy for row in rows] == list(DEFAULTS)
    assert len({row.ideal_node_hours for row in rows}) == 1
    by_name = {row.policy: row for row in rows}
    assert by_name["predictive"].above_target_percent < by_name["brief"].above_target_percent


def test_hours_are_those_of_the_day(tmp_path):
    path = hill(tmp_path / "trace.csv")
    assert len(read_trace(path, (11, 12)).requests) == 60
    with pytest.raises(UsageProblem, match="fewer than two minutes between 2 and 3 h"):
        read_trace(path, (2, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minute_utc,requests\nnoon,3\n", "line 2: not a minute and a number"),
        ("minute,requests\n1998-06-10 00:00:00,3\n", "line 2: not a minute"),
        ("minute_utc,requests\n1998-06-10 11:00:00,-3\n", "line 2: -3.0 requests"),
        ("minute_utc,requests\n1998-06-10 11:00:00,nan\n", "line 2: nan requests"),
        ("", "fewer than two minutes"),
    ],
)
def test_traces_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=message):
        read_trace(path)


def test_a_trace_that_is_not_there(tmp_path):
    with pytest.raises(NotFound):
        read_trace(tmp_path / "no.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min": 0}, "not 1 <= min <= max"),
        ({"min": 5, "max": 4}, "not 1 <= min <= max"),
        ({"speed": 0.0}, "--speed must be above 0"),
        ({"interval_s": -1.0}, "--interval-s must be above 0"),
        ({"boot_s": -1.0}, "must not be below 0"),
        ({"hours": "22-10"}, "--hours '22-10' is not like 10-22"),
        ({"policies": ("magic",)}, "there is no policy 'magic'"),
        ({"policies": ("threshold:cooldown_out_s",)}, "cannot use 'cooldown_out_s'"),
        ({"policies": ("threshold:cooldown_out_s=many",)}, "cooldown_out_s: expected float"),
        ({"policies": ("threshold:warp=9",)}, "policy 'threshold' has none"),
        ({"policies": ("threshold:min=",)}, "cannot use"),
        ({"policies": ("threshold:min=[1",)}, "cannot use"),
        ({"policies": ("threshold:min=1;max=2",)}, "cannot use"),
        ({"policies": ('threshold:min="x"',)}, "expected int"),
    ],
)
def test_plans_that_cannot_be_followed(tmp_path, change, message):
    with pytest.raises(LabError, match=message):
        scores(Plan(**change), hill(tmp_path / "trace.csv"))


def test_a_setting_may_be_changed():
    plan = Plan(policies=("brief", "threshold:cooldown_out_s=0", "predictive:spare=1"), boot_s=7.0)
    brief, threshold, predictive = plan.scalings().values()
    assert (brief.policy, brief.evaluation_periods) == ("threshold", 3)
    assert (brief.cooldown_out_s, brief.cooldown_in_s) == (300.0, 600.0)
    assert threshold.cooldown_out_s == 0
    assert predictive.options == {"target_percent": 70.0, "boot_s": 7.0, "spare": 1}


def test_an_idle_run_scores_without_dividing_by_nothing():
    work = constant(0.0, 0.0)
    row = score("x", Run(10.0, [2, 2], [2, 2]), work, SCALING, EXACT)
    assert (row.lost_percent, row.theta_over) == (0.0, 0.0)
