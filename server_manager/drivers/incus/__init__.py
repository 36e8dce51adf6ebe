"""The driver `incus`: every server is a system container, or a VM, of an Incus or a cluster of it.

`client` is the only thing that runs the `incus` program, `instances` says what of Incus is ours,
`network` which addresses there are, `cluster` which members, `ways` how the host reaches them.
"""
