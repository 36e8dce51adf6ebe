"""What an agent node says of itself: `python -m agent.metrics --config node.json`."""
