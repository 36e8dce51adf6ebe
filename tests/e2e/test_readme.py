"""The README's commands do what the README says: each is run, in order, in an empty folder."""

import re
import shlex
from pathlib import Path

import pytest

from labcore.http_client import call
from tests.e2e.harness import Hands

pytestmark = pytest.mark.local


@pytest.fixture(scope="module")
def driver() -> str:
    """As the README says: what every machine has."""
    return "local"


ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NOT_HERE = ("pipx", "make", "labctl demo")  # run by hand, and by CI


def commands(section: str) -> list[str]:
    """The lines of the console blocks of one section."""
    body = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## )", README, re.M | re.S)
    assert body, f"README has no section {section!r}"
    blocks = re.findall(r"```console\n(.*?)```", body[1], re.S)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_every_console_block_is_known():
    everything = re.findall(r"```console\n(.*?)```", README, re.S)
    known = commands("See it") + commands("Five minutes")
    assert sum(len(block.splitlines()) for block in everything) == len(known)
    assert all(line.startswith(NOT_HERE) for line in commands("See it"))


def test_the_five_minute_tour(hands: Hands):
    for line in commands("Five minutes"):
        words = shlex.split(line)
        if words[0] == "curl":
            url = words[-1].replace("http://127.0.0.1:8080", load_balancer(hands))
            assert call("GET", url)[0] == 200
        else:
            assert words[0] == "labctl"
            hands.do(*words[1:])
    assert not list((hands.state / "labs").glob("*"))


def load_balancer(hands: Hands) -> str:
    """Where the tour's lab really listens: 8080 may be taken on this machine."""
    return str(hands.status("demo")["load_balancer"]["url"])


def test_the_readmes_lab_file_is_valid(hands: Hands):
    text = re.findall(r"```yaml\n(.*?)```", README, re.S)
    for number, lab_file in enumerate(text):
        path = hands.state / f"lab-{number}.yaml"
        path.write_text(lab_file)
        hands.do("validate", "-f", str(path))


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
