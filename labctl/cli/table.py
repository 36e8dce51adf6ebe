"""Every command: its name, where it lives, its line in the help. Nothing is imported for it."""

from __future__ import annotations

from dataclasses import dataclass

MAIN = "Commands"
LOOK = "Look closer"
NODES = "Nodes"
LAB = "The lab"
FILES = "Without a lab"
HOST = "This machine"


@dataclass(frozen=True)
class Entry:
    """One command. `attribute` of `module` is a function, or a typer.Typer of sub-commands."""

    name: str
    module: str
    attribute: str
    help: str
    panel: str


def _entry(panel: str, name: str, module: str, text: str, attribute: str = "") -> Entry:
    return Entry(name, f"labctl.cli.{module}", attribute or name, text, panel)


# In the order of the help.
COMMANDS: tuple[Entry, ...] = (
    _entry(MAIN, "init", "files", "Write a lab.yaml to start from"),
    _entry(MAIN, "up", "lifecycle", "Stand the lab up, or finish what is missing"),
    _entry(MAIN, "status", "status", "Show the lab: nodes, load, last decision"),
    _entry(MAIN, "scale", "scaling", "Set the number of agents yourself"),
    _entry(MAIN, "load", "load", "Send requests and account for every one"),
    _entry(MAIN, "demo", "demo", "A narrated demo with a report"),
    _entry(MAIN, "down", "lifecycle", "Power the lab off, keep its disks"),
    _entry(MAIN, "doctor", "doctor", "Check this machine, say what to mend"),
    _entry(LOOK, "events", "history", "What happened, in order"),
    _entry(LOOK, "explain", "history", "Why the scaler decided what it did"),
    _entry(LOOK, "logs", "nodes", "The log of a node"),
    _entry(LOOK, "exec", "nodes", "Run a command on a node", "exec_"),
    _entry(NODES, "ssh", "ssh", "Log in to a node"),
    _entry(NODES, "ssh-config", "ssh", "For ssh, rsync, ansible and editors", "ssh_config"),
    _entry(NODES, "cp", "ssh", "Copy a file or folder to a node or from one"),
    _entry(LOOK, "plan", "lifecycle", "What `up` would do now"),
    _entry(LAB, "autoscale", "scaling", "Let the policy decide, or stop it"),
    _entry(LAB, "adopt", "adopt", "Take over machines made by Vagrant or by hand"),
    _entry(LAB, "destroy", "lifecycle", "Remove the lab, leave nothing behind"),
    _entry(NODES, "start", "nodes", "Turn a node on"),
    _entry(NODES, "stop", "nodes", "Drain a node and turn it off"),
    _entry(NODES, "pause", "nodes", "Freeze a node"),
    _entry(NODES, "resume", "nodes", "Let a frozen node go on"),
    _entry(NODES, "kill", "nodes", "Let a node die, to see the lab heal"),
    _entry(FILES, "validate", "files", "Check a lab file, tell every problem"),
    _entry(FILES, "schema", "files", "Print the JSON Schema of lab files"),
    _entry(FILES, "blueprints", "files", "List the lab files that labctl ships"),
    _entry(FILES, "simulate", "simulate", "Try scaling policies on a trace of load"),
    _entry(HOST, "image", "image", "Build, import, list or remove images"),
    _entry(HOST, "server", "server", "Start, stop or show the server-manager"),
    _entry(HOST, "api", "server", "Call the server-manager's API"),
)
