"""The list of drivers."""

from pathlib import Path

import pytest

from labcore.clock import FakeClock
from labcore.errors import UsageProblem
from server_manager.drivers import registry
from server_manager.paths import StatePaths

CONTEXT = registry.DriverContext.of(StatePaths(Path("/nowhere")), FakeClock(), {"PATH": "/bin"})


@pytest.mark.parametrize("name", registry.names())
def test_each_is_made_by_its_name(name):
    assert registry.make_driver(name, CONTEXT).name == name


def test_an_unknown_one_names_the_known():
    with pytest.raises(UsageProblem, match="'vmware'") as refusal:
        registry.make_driver("vmware", CONTEXT)
    assert refusal.value.hint == "known: local, virtualbox, incus, fake"
