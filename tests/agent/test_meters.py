"""The accounting of CPU time: its law, and real processes that come and go."""

import subprocess
import sys
from collections.abc import Hashable, Iterator

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metrics.meters import MIB, Ledger, SystemMeter, TreeMeter, _descendants
from labcore.clock import FakeClock

# One reading: which counters there are, and what each says. Counters come and go, and (as a pid
# may be used again, and clocks are clocks) may even go back.
READINGS = st.lists(
    st.dictionaries(st.integers(0, 4), st.floats(0, 1000, allow_nan=False), max_size=5), max_size=20
)


@given(READINGS)
def test_nothing_is_ever_negative_and_the_sums_are_right(readings: list[dict[Hashable, float]]):
    ledger = Ledger()
    answers = [ledger.added(reading) for reading in readings]
    expected = 0.0
    for key in range(5):
        life: list[float] = []
        for reading in [*readings, {}]:
            if key in reading:
                life.append(reading[key])
            elif life:
                expected += max(life) - life[0]
                life = []
    assert all(answer >= 0 for answer in answers)
    assert sum(answers) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0, 1e6))
def test_what_a_counter_had_before_it_was_seen_is_nobodys(steps: list[float], before: float):
    ledger, value, answers = Ledger(), before, []
    for step in [0.0, *steps]:
        value += step
        answers.append(ledger.added({"p": value}))
    assert answers[0] == 0
    assert sum(answers) == pytest.approx(sum(steps), abs=1e-6)


# A process that does as its standard input says: `burn 0.2` burns CPU, `child` passes what follows
# on to a child of its own, `end` lets that child end. It says `done` when it has.
OBEDIENT = """
import subprocess, sys, time
child = None
for line in sys.stdin:
    verb, _, rest = line.partition(" ")
    if verb == "burn":
        until = time.process_time() + float(rest)
        while time.process_time() < until:
            pass
    elif verb.strip() == "end":
        child.stdin.close()
        child.wait()
        child = None
    else:
        if child is None:
            child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1]],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        child.stdin.write(rest)
        child.stdin.flush()
        child.stdout.readline()
    print("done", flush=True)
"""


class Tree:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"


@pytest.fixture
def tree() -> Iterator[Tree]:
    with subprocess.Popen(
        [sys.executable, "-c", OBEDIENT, OBEDIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Tree(process)
        assert process.stdin is not None
        process.stdin.close()  # children end with their parent's end of the pipe


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def meter_of(tree: Tree, clock: FakeClock) -> TreeMeter:
    tree.tell("burn 0")  # it is up
    return TreeMeter(tree.process.pid, 1.0, 512, clock)


def later(meter: TreeMeter, clock: FakeClock) -> float:
    clock.advance(3.0)
    return meter.read().busy_s


@pytest.mark.local
@pytest.mark.parametrize("where", ["", "child ", "child child "])
def test_counts_the_root_and_all_below_it(tree: Tree, clock: FakeClock, where: str):
    tree.tell(f"{where}burn 0")
    meter = meter_of(tree, clock)
    meter.read()
    tree.tell(f"{where}burn 0.2")
    assert 0.19 <= later(meter, clock) <= 0.4
    assert later(meter, clock) <= 0.05


@pytest.mark.local
def test_a_process_counts_from_when_it_was_first_seen(tree: Tree, clock: FakeClock):
    meter = meter_of(tree, clock)
    meter.read()
    tree.tell("child burn 0.3")
    assert later(meter, clock) <= 0.1
    tree.tell("child burn 0.2")
    assert 0.19 <= later(meter, clock) <= 0.4


@pytest.mark.local
def test_a_process_that_ends_takes_nothing_back(tree: Tree, clock: FakeClock):
    tree.tell("child burn 0.3")
    meter = meter_of(tree, clock)
    meter.read()
    tree.tell("end")
    tree.tell("burn 0.1")
    assert 0.09 <= meter.read().busy_s <= 0.3
    tree.tell("child burn 0")
    meter.read()  # no time has passed, but as one ended, it looked for others at once
    tree.tell("child burn 0.2")
    assert 0.19 <= meter.read().busy_s <= 0.4


@pytest.mark.local
def test_a_tree_without_its_root_cannot_be_read(tree: Tree, clock: FakeClock):
    meter = meter_of(tree, clock)
    meter.read()
    assert tree.process.stdin is not None
    tree.process.stdin.close()
    tree.process.wait()
    for _ in range(2):
        with pytest.raises(psutil.NoSuchProcess):
            later(meter, clock)


@pytest.mark.local
def test_memory_is_that_of_all_processes_against_the_nodes_own(tree: Tree, clock: FakeClock):
    meter = meter_of(tree, clock)
    alone = meter.read().memory
    tree.tell("child burn 0")
    clock.advance(3.0)
    both = meter.read().memory
    assert alone.total == both.total == 512 * MIB
    resident = psutil.Process(tree.process.pid).memory_info().rss
    assert alone.total - alone.available == pytest.approx(resident, rel=0.2)
    assert 1.6 <= (both.total - both.available) / (alone.total - alone.available) <= 2.4
    assert both.percent == pytest.approx(100 * (1 - both.available / both.total), abs=0.01)


@pytest.mark.local
def test_more_memory_than_there_is_is_all_of_it(tree: Tree, clock: FakeClock):
    tree.tell("burn 0")
    memory = TreeMeter(tree.process.pid, 1.0, 1, clock).read().memory
    assert (memory.available, memory.percent) == (0, 100.0)


@pytest.mark.local
def test_finds_the_same_processes_as_psutil(tree: Tree):
    tree.tell("child child child burn 0")
    root = psutil.Process(tree.process.pid)
    assert set(_descendants(root)) == {p.pid for p in root.children(recursive=True)}
    assert len(_descendants(root)) == 3


def test_the_machine_is_measured_as_a_whole():
    meter = SystemMeter()
    assert meter.capacity == psutil.cpu_count()
    assert meter.read().busy_s == 0
    memory = meter.read().memory
    assert memory.total == psutil.virtual_memory().total
    assert 0 < memory.available < memory.total
    assert memory.percent == pytest.approx(100 * (1 - memory.available / memory.total), abs=0.01)


def test_the_machines_cpu_time_counts_ours(tree: Tree):
    meter = SystemMeter()
    meter.read()
    tree.tell("burn 0.3")
    assert meter.read().busy_s >= 0.28


def test_a_container_may_use_no_more_than_its_part():
    assert SystemMeter(0.5).capacity == 0.5
    assert SystemMeter(10_000.0).capacity == psutil.cpu_count()
