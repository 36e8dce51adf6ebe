"""The driver `virtualbox`: every server is a linked clone of a prepared virtual machine."""
