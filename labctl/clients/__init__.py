"""Clients of what runs inside a lab."""
