"""One SSH connection to a machine, for any number of commands, by paramiko."""

from __future__ import annotations

import logging
import shlex
import socket
from collections.abc import Callable, Sequence

import paramiko

from labcore.clock import Clock, SystemClock
from labcore.commands import Result
from labcore.errors import Conflict, LabError, TimedOut, Unauthorized, Unreachable
from labcore.files import write_atomic
from labcore.waiting import NotYet, wait_until
from labctl.ssh.endpoint import Endpoint, Learned, check_learnable
from labctl.ssh.exchange import Exchange, Feed, Take, broken

KEEPALIVE_S = 15
FASTEST_KEX = "curve25519"  # the others take a slow guest a minute
_NOT_YET = "it may still be booting: labctl status"


class Connection:
    """A machine that we are logged in to. Use as a context manager; commands run side by side."""

    def __init__(self, endpoint: Endpoint, client: paramiko.SSHClient, clock: Clock) -> None:
        self.endpoint = endpoint
        self._client = client
        self._clock = clock

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out. May be called twice."""
        self._client.close()

    def run(
        self,
        command: Sequence[str] | str,
        *,
        limit_s: float | None = None,
        tell: Callable[[str], None] | None = None,
        feed: Feed | None = None,
    ) -> Result:
        """Run a program (text: a shell's command line) to its end; what it printed.

        Each line of either stream is handed to `tell` as it comes. `feed` writes its stdin.
        Raises TimedOut after `limit_s`, and Unreachable when the connection breaks; the exit code
        is the caller's to look at.
        """
        kept = _Kept(tell)
        exchange = self.start(command, idle_s=self.endpoint.limits.idle_s)
        code = exchange.carry(kept.take, limit_s=limit_s, feed=feed)
        return Result((_line(command),), code, *kept.end())

    def attach(self, command: Sequence[str] | str, take: Take, feed: Feed | None = None) -> int:
        """Run a program between our own streams: `take` is handed what it writes; its exit code.

        A KeyboardInterrupt is passed on to it as SIGINT, and raised again.
        """
        return self.start(command).carry(take, limit_s=None, feed=feed)

    def start(self, command: Sequence[str] | str, *, idle_s: float | None = None) -> Exchange:
        """Begin a program, to be carried on by the caller. `idle_s`: how long it may neither take
        what it is fed nor, where its stdout is read as a file, say anything."""
        limits = self.endpoint.limits
        transport = self._client.get_transport()
        try:
            if transport is None:
                raise paramiko.SSHException("it was closed")
            channel = transport.open_session(timeout=limits.auth_s)
            channel.settimeout(idle_s)
            channel.exec_command(_line(command))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise broken(self.endpoint, error) from error
        return Exchange(self.endpoint, channel, _line(command), self._clock)


def connect(endpoint: Endpoint, clock: Clock | None = None) -> Connection:
    """Log in. Neither an agent nor anything in ~/.ssh is used.

    Raises Unreachable (nobody listens, or hangs up), TimedOut, Conflict (another host key: somebody
    else is there), Unauthorized (our key is not let in), LabError (our key cannot be read).
    """
    # paramiko tells of every failed login in its log too, with a traceback.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
    key = _key(endpoint)
    made: list[paramiko.Transport] = []
    client = paramiko.SSHClient()
    _trust(client, endpoint)
    stream = _reach(endpoint)
    try:
        client.connect(
            # The name is looked up among the host keys, as ssh does with HostKeyAlias.
            endpoint.name,
            username=endpoint.user,
            pkey=key,
            sock=stream,
            banner_timeout=endpoint.limits.banner_s,
            auth_timeout=endpoint.limits.auth_s,
            allow_agent=False,
            look_for_keys=False,
            transport_factory=lambda sock, **rest: _transport(endpoint, sock, rest, made),
        )
    except BaseException as error:
        client.close()
        stream.close()
        if isinstance(error, paramiko.SSHException | EOFError | OSError):
            raise _explained(endpoint, error, made[0] if made else None) from error
        raise
    made[0].set_keepalive(KEEPALIVE_S)
    return Connection(endpoint, client, clock or SystemClock())


def connect_when_up(endpoint: Endpoint, limit_s: float, clock: Clock) -> Connection:
    """`connect`, tried again while nobody answers; for a machine that boots.

    Another host key and a refused login end it at once. Raises TimedOut with what was seen last.
    """

    def probe() -> Connection:
        try:
            return connect(endpoint, clock)
        except (Unreachable, TimedOut) as error:
            raise NotYet(error.message) from error

    return wait_until(
        probe,
        name=f"{endpoint.name} to answer SSH at {endpoint.address}",
        limit_s=limit_s,
        clock=clock,
        hint="look at its console",
        interval_s=0.1,
    )


class _Kept:
    """Keeps both streams of a command, and tells their lines as they come."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        self._whole = (bytearray(), bytearray())
        self._told = [0, 0]

    def take(self, stream: int, data: bytes) -> None:
        whole = self._whole[stream - 1]
        whole += data
        while self._tell and (end := whole.find(b"\n", self._told[stream - 1])) >= 0:
            self._tell(_text(whole[self._told[stream - 1] : end]))
            self._told[stream - 1] = end + 1

    def end(self) -> tuple[str, str]:
        for whole, told in zip(self._whole, self._told, strict=True):
            if self._tell and told < len(whole):
                self._tell(_text(whole[told:]))
        return _text(self._whole[0]), _text(self._whole[1])


def _text(raw: bytearray) -> str:
    return raw.decode(errors="replace").removesuffix("\r")


def _line(command: Sequence[str] | str) -> str:
    """What the login shell over there is given: each word as one word."""
    return command if isinstance(command, str) else shlex.join(command)


def _key(endpoint: Endpoint) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(endpoint.key_file)
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise LabError(
            f"{endpoint.name}: cannot read the key {endpoint.key_file}: {error}"
        ) from error


def _trust(client: paramiko.SSHClient, endpoint: Endpoint) -> None:
    """Let the client know the one host key there may be, and refuse all others."""
    trust = endpoint.trust
    if isinstance(trust, Learned) and not trust.file.exists():
        check_learnable(endpoint)
        client.set_missing_host_key_policy(_Learning(trust))
        return
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    public = trust.file.read_text() if isinstance(trust, Learned) else trust.public
    try:
        entry = paramiko.hostkeys.HostKeyEntry.from_line(f"{endpoint.name} {public}")
    except paramiko.SSHException:
        entry = None
    if entry is None:
        raise LabError(f"{endpoint.name}: its pinned host key is not one: {public.strip()!r}")
    client.get_host_keys().add(endpoint.name, entry.key.get_name(), entry.key)


class _Learning(paramiko.MissingHostKeyPolicy):
    """The paramiko policy of `Learned`; it is asked before anybody logs in."""

    def __init__(self, trust: Learned) -> None:
        self._trust = trust

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        self._trust.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._trust.file, f"{key.get_name()} {key.get_base64()}\n")


def _reach(endpoint: Endpoint) -> socket.socket:
    try:
        return socket.create_connection(
            (endpoint.host, endpoint.port), timeout=endpoint.limits.connect_s
        )
    except TimeoutError as error:
        raise TimedOut(
            f"{endpoint.name}: no connection to {endpoint.address} within"
            f" {endpoint.limits.connect_s:g} s",
            _NOT_YET,
        ) from error
    except OSError as error:
        raise Unreachable(
            f"{endpoint.name}: no connection to {endpoint.address}: {error.strerror or error}",
            _NOT_YET,
        ) from error


def _transport(
    endpoint: Endpoint, sock: object, rest: dict[str, object], made: list[paramiko.Transport]
) -> paramiko.Transport:
    transport = paramiko.Transport(sock, **rest)  # type: ignore[arg-type]
    transport.handshake_timeout = endpoint.limits.handshake_s
    options = transport.get_security_options()
    options.kex = sorted(options.kex, key=lambda name: not name.startswith(FASTEST_KEX))
    made.append(transport)
    return transport


def _explained(
    endpoint: Endpoint, error: BaseException, transport: paramiko.Transport | None
) -> LabError:
    """What a failed login means."""
    if isinstance(error, paramiko.BadHostKeyException):
        return Conflict(
            f"{endpoint.name}: another host key than the pinned one answers at {endpoint.address}:"
            " that is some other machine",
            "nothing was sent to it; labctl doctor shows who holds that port",
            (
                f"pinned:   {error.expected_key.get_name()} {error.expected_key.fingerprint}",
                f"answered: {error.key.get_name()} {error.key.fingerprint}",
            ),
        )
    # paramiko wraps the time-out of a banner in an error of its own, that of a login in words.
    timed_out = isinstance(error.__context__, TimeoutError) or "timeout" in str(error).lower()
    if isinstance(error, paramiko.AuthenticationException) and not timed_out:
        return Unauthorized(
            f"{endpoint.name}: {endpoint.address} does not let {endpoint.user} in with the key"
            f" {endpoint.key_file}",
            "labctl up repairs a node that lost its keys",
        )
    return _unanswered(endpoint, error, transport, timed_out)


def _unanswered(
    endpoint: Endpoint, error: BaseException, transport: paramiko.Transport | None, timed_out: bool
) -> LabError:
    """Which part of a login nobody answered."""
    limits = endpoint.limits
    what, limit_s = "the login", limits.auth_s
    if transport is None or not transport.remote_version:
        what, limit_s = "its SSH banner", limits.banner_s
    elif not transport.initial_kex_done:
        what, limit_s = "the end of the key exchange", limits.handshake_s
        timed_out = timed_out or isinstance(error, EOFError)
    if timed_out:
        return TimedOut(
            f"{endpoint.name}: {endpoint.address} accepts, but {what} did not come within"
            f" {limit_s:g} s",
            _NOT_YET,
        )
    return Unreachable(
        f"{endpoint.name}: {endpoint.address} accepts, but hung up before {what}", _NOT_YET
    )
