"""`python -m agent.app.container`: the demo application in a container, told by its environment.

Reads what every app of a lab is given: LABCTL_LAB, LABCTL_NODE, LABCTL_REGION, HOST and PORT.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from agent.app.__main__ import main
from labcore.wire.node import NodeConfig


def config_of(environment: Mapping[str, str]) -> NodeConfig:
    """A node config for the app alone. Missing variables have the values of a trial by hand."""
    node = environment.get("LABCTL_NODE", "container")
    host, port = environment.get("HOST", "0.0.0.0"), environment.get("PORT", "5000")  # noqa: S104
    return NodeConfig(
        lab=environment.get("LABCTL_LAB", "none"),
        node=node,
        group=node.rpartition("-")[0] or node,
        role="agent",
        region=environment.get("LABCTL_REGION", "none"),
        cpus=1.0,
        memory_mib=0,
        scope="system",
        directory="/tmp",  # noqa: S108 - the app writes nothing
        listen={"app": f"{host}:{port}"},
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    main(config_of(os.environ))
    sys.exit(0)
