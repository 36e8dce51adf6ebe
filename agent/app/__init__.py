"""The demo application of an agent node: `python -m agent.app --config node.json`."""
