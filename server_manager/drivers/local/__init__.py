"""Servers as processes on this machine: a folder and one supervisor each."""
