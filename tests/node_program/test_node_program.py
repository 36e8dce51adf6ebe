"""What a node gets, run as a node runs it: Debian 12's Python, in isolation, from a folder."""

import io
import json
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labcore.errors import Conflict
from server_manager import node_program
from tests.agent.running import ANY, ROOT, TOKEN, running, secret_of, write_config

PYTHON = "/usr/bin/python3"
NGINX = "/usr/sbin/nginx"
DEBIAN_12 = {
    "python": "3.11",
    "flask": "2.2.2",
    "waitress": "2.1.2",
    "psutil": "5.9.4",
    "jinja2": "3.1.2",
    "aiohttp": "3.8.4",
    "tenacity": "8.2.1",
}
VERSIONS = """
import importlib.metadata, json, sys
found = {"python": "%d.%d" % sys.version_info[:2]}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = "missing"
print(json.dumps(found))
"""
# Imports every module of the folder it lies in, then tells where all that is loaded came from.
PROBE = """
import importlib, json, pathlib, sys
here = pathlib.Path(__file__).parent
modules = [
    ".".join(path.relative_to(here).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(here.rglob("*.py"))
    if path.parent != here
]
for name in modules:
    importlib.import_module(name)
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({"modules": modules, "path": sys.path, "files": files}))
"""


def _why_not_debian_12() -> str:
    """Why this machine cannot run node code as nodes do; empty if it can."""
    if not Path(PYTHON).exists():
        return f"there is no {PYTHON}"
    names = [name for name in DEBIAN_12 if name != "python"]
    asked = subprocess.run(
        [PYTHON, "-I", "-c", VERSIONS, *names], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(asked.stdout)
    wrong = [f"{n} {v} (is {found[n]})" for n, v in DEBIAN_12.items() if found[n] != v]
    return f"needs Debian 12's {', '.join(wrong)}" if wrong else ""


WHY_NOT = _why_not_debian_12()
as_nodes_do = pytest.mark.skipif(WHY_NOT != "", reason=WHY_NOT or "it can")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "opt" / "labctl"
    node_program.copy_to(target)
    return target


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def test_a_node_gets_three_packages_and_a_door(folder: Path):
    assert {p.name for p in folder.iterdir()} == {
        *("__main__.py", "DIGEST", "agent", "control_node", "labcore")
    }
    inside = (p for p in folder.rglob("*") if p.is_file() and p.name != "DIGEST")
    assert {p.suffix for p in inside} == {".py", ".j2"}


@pytest.mark.parametrize("package", node_program.PACKAGES)
def test_it_is_all_of_the_sources(folder: Path, package: str):
    for suffix in node_program.SUFFIXES:
        ours = {p.relative_to(ROOT): p.read_bytes() for p in (ROOT / package).rglob(f"*{suffix}")}
        theirs = {
            p.relative_to(folder): p.read_bytes() for p in (folder / package).rglob(f"*{suffix}")
        }
        assert ours == theirs


def test_does_not_mix_with_an_older_version(folder: Path):
    with pytest.raises(Conflict, match="is not empty"):
        node_program.copy_to(folder)


def test_the_archive_is_the_same_and_always_equal(folder: Path):
    packed = node_program.archive()
    assert packed == node_program.archive()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = tar.getmembers()
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}
        unpacked = []
        for member in members:
            stream = tar.extractfile(member)
            assert stream is not None
            unpacked.append((member.name, stream.read()))
    assert sorted(unpacked) == sorted(contents(folder))


@as_nodes_do
def test_every_module_is_importable_and_nothing_else_leaks_in(folder: Path):
    (folder / "probe.py").write_text(PROBE)
    ended = subprocess.run(
        [PYTHON, "-I", str(folder), "probe"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert {"agent.metrics.__main__", "agent.app.__main__", "labcore.wire.node"} <= set(
        told["modules"]
    )
    allowed = (f"{folder}", "/usr/lib/python3")
    # Debian looks into /usr/local too, where pip would install; nothing may be found there.
    places = (*allowed, "/usr/local/lib/python3")
    assert [place for place in told["path"] if not place.startswith(places)] == []
    strangers = {n: f for n, f in told["files"].items() if f and not f.startswith(allowed)}
    assert strangers == {}
    # Nothing that only the host has; `labctl` and `server_manager` would be found here too.
    assert not {"pydantic", "rich", "typer", "yaml", "filelock"} & set(told["files"])


@as_nodes_do
@pytest.mark.local
def test_an_agent_runs_from_it(folder: Path, tmp_path: Path):
    node = tmp_path / "node"
    python = (PYTHON, "-I", str(folder))
    with running("agent.app", write_config(node), python=python) as app:
        assert app.ask("/work?ms=5").json["node"] == "agent-1"
        assert app.ask("/echo", "POST", bytes(1024 * 1024)).body == bytes(1024 * 1024)
        config = write_config(node, listen={"app": app.address, "metrics": ANY})
        with running("agent.metrics", config, python=python) as metrics:
            assert metrics.ask("/metrics").json["in_flight"] in (0, None)
            assert metrics.ask("/metrics", headers={"Accept": "text/plain"}).status == 200
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            told = metrics.ask("/drain", "POST", b'{"draining": true}', headers)
            assert told.json == {"draining": True}
            assert metrics.ask("/drain", "POST", b"{}", headers).status == 400
            assert metrics.ask("/drain", "POST").status == 401
            draining = metrics.ask("/metrics").json
            assert (draining["status"], draining["in_flight"]) == ("draining", 0)
            assert metrics.stop() == 0
        assert app.stop() == 0


@as_nodes_do
@pytest.mark.local
@pytest.mark.skipif(not Path(NGINX).exists(), reason=f"there is no {NGINX}")
def test_a_control_node_runs_from_it(folder: Path, tmp_path: Path):
    node = tmp_path / "node"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # nginx only tests it here, and minds no port that is taken
    tokens = {name: node / "secrets" / name for name in ("scaler-token", "scaler-api-token")}
    config = write_config(
        node,
        node="control",
        role="control",
        nginx=NGINX,
        listen={"nginx": f"127.0.0.1:{port}", "scaler": ANY},
        manager_url="http://127.0.0.1:9",  # nobody is there, and a scaler lives with that
        secrets={
            name: str(path) for name, path in {**tokens, "agent-token": secret_of(node)}.items()
        },
    )
    for path in tokens.values():
        path.write_text("a-token\n")
    prepared = subprocess.run(
        [PYTHON, "-I", str(folder), "control_node.balancer", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert prepared.returncode == 0, prepared.stderr
    assert f"listen 127.0.0.1:{port}" in (node / "nginx" / "nginx.conf").read_text()
    with running("control_node.scaler", config, python=(PYTHON, "-I", str(folder))) as scaler:
        assert scaler.ask("/").status == 200
        assert scaler.ask("/status").status == 401
        status = scaler.ask("/status", headers={"Authorization": "Bearer a-token"})
        assert (status.status, status.json["lab"]) == (200, "demo")
        assert scaler.stop() == 0


@as_nodes_do
@pytest.mark.parametrize("arguments", [(), ("agent.metrics",), ("agent.metrics", "--config", "/x")])
def test_what_cannot_run_is_exit_code_2(folder: Path, arguments: tuple[str, ...]):
    ended = subprocess.run(
        [PYTHON, "-I", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr != ""
