"""How labctl logs in to nodes: pinned host keys, one connection for many commands, no ~/.ssh.

`connection` imports paramiko, which takes 0.2 s: commands import it when they log in.
"""
