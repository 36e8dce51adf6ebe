"""What labctl says of itself, and how little it loads for that."""

import subprocess
import sys

import pytest

from labctl.cli.table import COMMANDS
from tests.labctl.conftest import Labctl

HEAVY = ("pydantic", "rich", "flask", "paramiko", "psutil", "tenacity", "yaml", "aiohttp")
LOADED = """
import sys
from labctl.cli.main import main
code = main(sys.argv[2:])
found = [name for name in sys.argv[1].split(",") if name in sys.modules]
assert not found, found
sys.exit(code)
"""


def loads_nothing(*arguments: str, but: tuple[str, ...] = ()) -> None:
    banned = ",".join(name for name in HEAVY if name not in but)
    subprocess.run(
        [sys.executable, "-c", LOADED, banned, *arguments], check=True, stdout=subprocess.DEVNULL
    )


def test_the_help_opens_with_what_people_need_first(labctl: Labctl):
    done = labctl("--help")
    assert done.code == 0
    lines = done.out.splitlines()
    first = lines.index("Commands:") + 1
    names = [line.split()[0] for line in lines[first : first + 8]]
    assert names == ["init", "up", "status", "scale", "load", "demo", "down", "doctor"]
    assert lines[first + 8] == ""


def test_no_arguments_are_a_question_for_help(labctl: Labctl):
    done = labctl()
    assert done.out + done.err == labctl("--help").out


@pytest.mark.parametrize("name", [entry.name for entry in COMMANDS])
def test_every_command_has_a_help_in_80_columns(labctl: Labctl, name: str):
    done = labctl(name, "--help")
    assert done.code == 0, done.err
    assert done.out.startswith(f"Usage: labctl {name}")
    assert "--lab" in done.out or name == "server"
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert name in labctl("--help").out


def test_the_help_loads_nothing_heavy():
    loads_nothing("--help")
    loads_nothing("status", "--help")


def test_small_commands_load_nothing_heavy():
    loads_nothing("blueprints")
    loads_nothing("--version")


def test_status_as_json_draws_nothing(double):
    loads_nothing("status", "-o", "json", but=("psutil", "tenacity"))


def test_a_misspelt_command_gets_a_suggestion(labctl: Labctl):
    done = labctl("stauts")
    assert done.code == 2
    assert "Did you mean 'status'" in done.err
    assert done.out == ""


def test_the_version(labctl: Labctl):
    assert labctl("--version").out == "labctl 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [("labctl stat", "status"), ("labctl status -o ", "json"), ("labctl status --lab d", "demo")],
)
def test_the_shell_completes(double, words: str, expected: str):
    done = subprocess.run(
        [sys.executable, "-c", "from labctl.cli.main import run; run()"],
        env={
            **__import__("os").environ,
            "_LABCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout.split(), done.stderr
