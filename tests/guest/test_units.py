"""systemd text: what runs, as whom, and what it may touch."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labcore.services import (
    APP,
    CATALOGUE,
    METRICS,
    NGINX,
    SCALER,
    Service,
    make_unit,
    with_command,
    with_image,
)
from labcore.wire.node import NodeConfig
from server_manager.guest.seed import RUNTIME
from server_manager.guest.units import command, environment_text, quote, unit_text

NODE = NodeConfig(
    lab="demo",
    node="one",
    group="one",
    role="agent",
    region="local",
    cpus=1.0,
    memory_mib=512,
    scope="system",
    directory="/var/lib/labctl/node",
    listen={s.name: f"0.0.0.0:{s.port}" for s in CATALOGUE.values()},
    secrets={
        name: f"/var/lib/labctl/node/secrets/{name}"
        for name in ("agent-token", "scaler-token", "scaler-api-token", "db-password")
    },
    nginx="/usr/sbin/nginx",
)


def lines(service: Service, node: NodeConfig = NODE) -> list[str]:
    return unit_text(service, make_unit(service, node, RUNTIME), node).splitlines()


@pytest.mark.parametrize("service", CATALOGUE.values(), ids=CATALOGUE)
def test_every_service_is_shut_in_and_never_given_up(service):
    text = lines(service)
    assert {
        "User=labctl",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "MemoryDenyWriteExecute=yes",
        "Restart=always",
        "StartLimitIntervalSec=0",
        f"KillSignal={int(service.stop_signal)}",
        f"TimeoutStopSec={service.stop_grace_s:g}",
    } <= set(text)


def test_in_a_container_a_service_sees_the_proc_of_the_container():
    inside = dataclasses.replace(NODE, scope="container")
    proc = {"ProtectProc=invisible", "ProtectKernelTunables=yes", "ProtectControlGroups=yes"}
    assert proc <= set(lines(METRICS))
    assert not proc & set(lines(METRICS, inside))


def test_only_who_listens_below_1024_or_tries_that_configuration_may_bind():
    grant = "AmbientCapabilities=CAP_NET_BIND_SERVICE"
    assert [s.name for s in CATALOGUE.values() if grant in lines(s)] == ["nginx", "scaler"]
    high = dataclasses.replace(NODE, listen={**NODE.listen, "nginx": "0.0.0.0:8080"})
    assert grant not in lines(NGINX, high)
    assert "CapabilityBoundingSet=" in lines(NGINX, high)


def test_a_service_writes_into_its_own_folder_and_those_it_follows():
    def writable(service: Service) -> list[str]:
        (line,) = (text for text in lines(service) if text.startswith("ReadWritePaths="))
        return re.findall(r'"/var/lib/labctl/node/([^"]*)"', line)

    assert writable(APP) == ["app"]
    assert writable(SCALER) == ["scaler", "nginx"]


def test_secrets_are_hidden_from_who_reads_none():
    hidden = "InaccessiblePaths=-/var/lib/labctl/node/secrets"
    assert [s.name for s in CATALOGUE.values() if hidden in lines(s)] == ["nginx", "app"]
    own = dataclasses.replace(
        with_command(APP, "serve", {"PASSWORD": "secret:db-password"}), secrets=("db-password",)
    )
    assert hidden in lines(own)
    assert hidden not in lines(METRICS)


def test_a_users_own_program_may_be_compiled_while_it_runs():
    assert "MemoryDenyWriteExecute=yes" not in lines(with_command(APP, "node server.js", {}))


def test_a_container_app_is_podman_as_the_service_user_and_seals_itself_in():
    text = lines(with_image(APP, "localhost/demo:1", {"MODE": "x"}))
    assert "User=labctl" in text
    # Either would take setuid newuidmap away from podman.
    assert not [line for line in text if line.startswith(("NoNewPrivileges", "SystemCall"))]
    (start,) = (line for line in text if line.startswith("ExecStart="))
    words = re.findall(r'"([^"]*)"', start)
    assert words[0] == ":/usr/bin/podman"
    assert {"--user=1000:1000", "--cap-drop=all", "--pull=never", "--env=MODE"} <= set(words)
    assert words[-1] == "localhost/demo:1"
    assert any('"/var/lib/labctl/containers"' in line for line in text)


def test_the_order_is_that_of_the_catalogue_and_the_seed_comes_first():
    assert "After=labctl-seed.service network.target labctl-nginx.service" in lines(SCALER)


ANY_WORD = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))


@given(ANY_WORD)
def test_a_word_is_one_line_and_read_back_as_it_was(word):
    quoted = quote(word)
    assert not re.search(r"[\x00-\x1f]", quoted)
    assert systemd_reads(quoted) == word


@given(st.lists(ANY_WORD.filter(bool), min_size=1))
def test_a_command_is_its_words(words):
    text = command(tuple(words))
    assert [systemd_reads(part) for part in re.findall(r'"(?:\\.|[^"\\])*"', text)] == [
        ":" + words[0],
        *words[1:],
    ]


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), ANY_WORD))
def test_an_environment_file_sets_what_it_was_given(values):
    text = environment_text(values)
    found = re.findall(r'^([A-Z_]+)="((?:\\.|[^"\\])*)"$', text, re.MULTILINE | re.DOTALL)
    assert {key: re.sub(r"\\(.)", r"\1", raw, flags=re.DOTALL) for key, raw in found} == values


def systemd_reads(quoted: str) -> str:
    """systemd.syntax(7): quotes off, C escapes, then specifiers."""
    inner = re.sub(
        r"\\(?:x([0-9a-f]{2})|(.))",
        lambda m: chr(int(m[1], 16)) if m[1] else m[2],
        quoted[1:-1],
        flags=re.DOTALL,
    )
    assert not re.search(r"(?<!%)(?:%%)*%(?!%)", inner)
    return inner.replace("%%", "%")
