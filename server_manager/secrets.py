"""Tokens: made once, kept in files that only their owner can read, never in a log."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping

from labcore.errors import UsageProblem
from labcore.files import read_secret, write_secret
from labcore.wire.node import AGENT_TOKEN, SCALER_API_TOKEN, SCALER_TOKEN
from server_manager.paths import StatePaths

ADMIN = "admin"
SCALER_PREFIX = "scaler:"
LAB_TOKENS = (SCALER_TOKEN, SCALER_API_TOKEN, AGENT_TOKEN)


class Secrets:
    """The tokens of one state directory."""

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        if not paths.admin_token.exists():
            write_secret(paths.admin_token, secrets.token_urlsafe(32))
        self._admin = read_secret(paths.admin_token)
        self._labs: dict[str, dict[str, str]] = {}

    def of(self, lab: str) -> Mapping[str, str]:
        """The tokens of a lab by name; made when they are first asked for."""
        if lab not in self._labs:
            self._labs[lab] = {name: self._one(lab, name) for name in LAB_TOKENS}
        return self._labs[lab]

    def _one(self, lab: str, name: str) -> str:
        path = self._paths.secrets(lab) / name
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32))
        return read_secret(path)

    def one(self, lab: str, name: str) -> str:
        """A secret of a lab: one of its tokens, or one that its user put into a file.

        Raises UsageProblem with the place where the user's file belongs if there is none.
        """
        if name in LAB_TOKENS:
            return self.of(lab)[name]
        own, shared = self._paths.secrets(lab) / name, self._paths.user_secret(name)
        for path in (own, shared):
            if path.exists():
                if path.stat().st_mode & 0o077:
                    raise UsageProblem(f"secret {name!r}: others may read it", f"chmod 600 {path}")
                return read_secret(path)
        raise UsageProblem(
            f"there is no secret {name!r}", f"write it to {shared}, then chmod 600 {shared}"
        )

    def remove(self, lab: str) -> None:
        """Remove a lab's folder with its tokens and whatever else is left of it."""
        self._labs.pop(lab, None)
        shutil.rmtree(self._paths.lab(lab), ignore_errors=True)

    def principals(self) -> dict[str, str]:
        """Token -> principal: `admin`, and `scaler:<lab>` of the labs asked for so far."""
        scalers = {
            tokens[SCALER_TOKEN]: SCALER_PREFIX + lab for lab, tokens in list(self._labs.items())
        }
        return {self._admin: ADMIN, **scalers}

    def values(self) -> tuple[str, ...]:
        """Every token that is known now."""
        labs = (token for tokens in list(self._labs.values()) for token in tokens.values())
        return (self._admin, *labs)


class Redact(logging.Filter):
    """Put `***` in place of every secret in a record's text, its arguments and its traceback."""

    def __init__(self, values: Callable[[], Iterable[str]]) -> None:
        super().__init__()
        self._values = values

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter; lets every record through."""
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        text = record.getMessage()
        for value in self._values():
            text = text.replace(value, "***")
            if record.exc_text:
                record.exc_text = record.exc_text.replace(value, "***")
        record.msg, record.args = text, None
        return True
