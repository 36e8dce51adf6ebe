"""Where a copied file or folder goes: the rules of `cp -r`. Pure."""

from __future__ import annotations

import posixpath

from labcore.errors import UsageProblem


def place(target: str, name: str, *, is_folder: bool) -> tuple[str, str]:
    """The folder and the name that something called `name` gets when copied to `target`.

    Into `target` if that is a folder or ends in `/`, else as `target`.
    """
    if is_folder or target.endswith("/"):
        return target.rstrip("/") or "/", name
    return posixpath.dirname(target) or ".", posixpath.basename(target)


def own_name(path: str) -> str:
    """The name of what is copied from `path`; raises UsageProblem if that says none."""
    name = posixpath.basename(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise UsageProblem(f"{path!r} has no name of its own", "name a file or a folder")
    return name
