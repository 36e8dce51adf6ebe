"""`python -m control_node.balancer --config node.json`: run before every start of nginx."""

from __future__ import annotations

import logging
import sys

from control_node.balancer.layout import prepare
from labcore import entry
from labcore.wire.node import NodeConfig

log = logging.getLogger(__name__)


def main(node: NodeConfig) -> None:
    """See `layout.prepare`."""
    log.info("first configuration written" if prepare(node) else "configuration kept")


if __name__ == "__main__":
    sys.exit(entry.run("control_node.balancer", main))
