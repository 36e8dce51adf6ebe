"""The terminal: the only package that draws."""
