"""The load generator: an open model, every request accounted for."""
