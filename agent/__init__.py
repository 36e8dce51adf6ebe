"""What runs in an agent node: the metrics API and the demo app."""
