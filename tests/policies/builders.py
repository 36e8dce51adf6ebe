"""Short ways to write down a situation."""

from control_node.policies import History, NodeSample, Observation, Verdict, decide, remember
from labcore.wire.lab import Scaling


def group(
    cpu: float | None,
    nodes: int = 3,
    *,
    memory: float | None = 50.0,
    desired: int | None = None,
    in_flight: int | None = None,
    **others: int,
) -> Observation:
    """`nodes` equal nodes; a count that is wished for only where it differs."""
    names = (f"agent-{number + 1}" for number in range(nodes))
    samples = tuple(NodeSample(name, cpu, memory, in_flight) for name in names)
    wished = nodes + others.get("booting", 0) if desired is None else desired
    return Observation(samples, wished, **others)  # type: ignore[arg-type] # **others are ints


def once(observation: Observation, scaling: Scaling, history: History | None = None) -> Verdict:
    """One decision at 1000 s."""
    return decide(1000.0, history or History(), observation, scaling)


class Course:
    """Evaluations one interval apart, remembered. The group is always as large as was decided."""

    def __init__(self, scaling: Scaling, now: float = 1000.0) -> None:
        self.scaling = scaling
        self.now = now
        self.history = History()

    def step(self, observation: Observation) -> Verdict:
        """Decide, remember, let an interval pass."""
        verdict = decide(self.now, self.history, observation, self.scaling)
        self.history = remember(self.now, self.history, observation, verdict, self.scaling)
        self.now += self.scaling.interval_s
        return verdict
