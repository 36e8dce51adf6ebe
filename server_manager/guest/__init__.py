"""Servers that are whole machines: what a VM or a container is given, the same on every back end.

`seed` says what a guest is told (identity, keys, services, firewall); how that reaches it (an ISO,
pushed files, SSH) is the business of each driver. vagrant/provision/ makes the images that read it.
"""
