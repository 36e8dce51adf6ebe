"""Which specs of a server that stands are taken over, and which are another server's."""

import dataclasses

import pytest

from server_manager.drivers.base import Forward, may_take_over
from tests.guest.specs import Keys, control


@pytest.fixture(scope="module")
def spec():
    return control(Keys(), "agent-1")


@pytest.mark.parametrize(
    "change", [{"forwards": (Forward("nginx", 9080, 80),)}, {"host_ports": (5001,)}]
)
def test_ports_are_told_anew_at_every_start(spec, change):
    assert may_take_over(spec, dataclasses.replace(spec, **change))


def test_so_is_who_else_is_in_the_lab(spec):
    more = dataclasses.replace(spec.ssh, known_hosts=("agent-1 x", "agent-2 y"))
    assert may_take_over(spec, dataclasses.replace(spec, ssh=more))


@pytest.mark.parametrize("change", [{"memory_mib": 1}, {"services": ()}, {"secrets": {}}])
def test_all_else_makes_another_server(spec, change):
    assert not may_take_over(spec, dataclasses.replace(spec, **change))
    other = dataclasses.replace(spec.ssh, host_key="another")
    assert not may_take_over(spec, dataclasses.replace(spec, ssh=other))
