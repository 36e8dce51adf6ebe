"""Which nginx it is."""

from pathlib import Path

import pytest

from labcore.errors import DriverUnusable
from labcore.nginx import parse_version, program_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.22.1\n", (1, 22, 1)),
        ("nginx version: nginx/1.18.0 (Ubuntu)\n", (1, 18, 0)),
        ("nginx: [warn] could not open\nnginx version: nginx/1.31.3", (1, 31, 3)),
    ],
)
def test_the_version_is_found(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "nginx version: openresty/1.21.4.1", "nginx/1.2"])
def test_anything_else_is_no_nginx(text):
    with pytest.raises(DriverUnusable, match="no nginx version"):
        parse_version(text)


def program(directory: Path, version: str) -> str:
    path = directory / "nginx"
    path.write_text(f"#!/bin/sh\necho 'nginx version: nginx/{version}' >&2\n")
    path.chmod(0o700)
    return str(path)


def test_a_program_is_asked(tmp_path: Path):
    assert program_version(program(tmp_path, "1.19.5")) == (1, 19, 5)


def test_one_that_is_too_old_is_refused(tmp_path: Path):
    with pytest.raises(DriverUnusable, match=r"is nginx 1\.19\.4") as refused:
        program_version(program(tmp_path, "1.19.4"))
    assert "1.19.5" in refused.value.hint
