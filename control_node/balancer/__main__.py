"""`python -m control_node.balancer --config node.json`: run before every start of nginx."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from control_node.balancer.layout import prepare
from labcore import codec, files
from labcore.errors import LabError, UsageProblem
from labcore.wire.node import NodeConfig

log = logging.getLogger("control_node.balancer")


def main(argv: list[str]) -> int:
    """See `layout.prepare`; the exit code of the error if it raises one."""
    parser = argparse.ArgumentParser(prog="control_node.balancer", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the node config file")
    path: Path = parser.parse_args(argv).config
    try:
        written = prepare(read_node(path))
    except LabError as error:
        log.error("%s", "\n".join((error.message, *error.details, error.hint)).strip())
        return error.exit_code
    log.info("first configuration written" if written else "configuration kept")
    return 0


def read_node(path: Path) -> NodeConfig:
    """The node config in a file; raises UsageProblem."""
    try:
        value = files.read_json(path)
    except (OSError, ValueError) as error:
        raise UsageProblem(f"{path} cannot be read: {error}") from error
    if value is None:
        raise UsageProblem(f"there is no node config {path}")
    return codec.decode(NodeConfig, value, str(path))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    sys.exit(main(sys.argv[1:]))
