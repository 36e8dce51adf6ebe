"""The wire types: frozen dataclasses that travel as JSON through `labcore.codec`."""
