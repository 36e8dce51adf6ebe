"""The host's service: the only process that calls drivers, and keeper of the lab registry."""
