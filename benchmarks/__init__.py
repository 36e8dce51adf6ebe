"""Measurements, each with a bar it has to clear. Every module here but `__main__` is one:
`run(full: bool) -> list[Row]`; what they share lies in `harness/`.
"""
