"""The guard refuses before the app sees a request; the client brings the same error back."""

import http.client
import threading

import pytest

from labcore.errors import (
    Conflict,
    Forbidden,
    LabError,
    Unauthorized,
    Unreachable,
    UsageProblem,
    from_wire,
)
from labcore.http_client import call, call_json
from labcore.web import PRINCIPAL, Guard, make_server, split_address


def app(environ, start):
    if environ["PATH_INFO"] == "/conflict":
        body = b'{"error": {"code": "conflict", "message": "not now", "hint": "wait"}}'
        start("409 Conflict", [("Content-Type", "application/json")])
        return [body]
    if environ["PATH_INFO"] == "/text":
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]
    start("200 OK", [("Content-Type", "application/json")])
    return [b'{"who": "%s"}' % str(environ[PRINCIPAL]).encode()]


@pytest.fixture(scope="module")
def url():
    guard = Guard(
        hosts=frozenset({"127.0.0.1"}),
        tokens=lambda: {"s3cret": "admin"},
        is_open=lambda method, path: (method, path) == ("GET", "/"),
    )
    server = make_server(guard.wrap(app), "127.0.0.1:0", threads=2, most_body_bytes=65536)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    thread.join()


def status(url, method="GET", path="/x", headers=None, body=None):
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    finally:
        connection.close()


BEARER = {"Authorization": "Bearer s3cret"}


def test_a_token_gives_the_app_its_principal(url):
    assert call_json("GET", f"{url}/x", token="s3cret") == {"who": "admin"}


def test_an_open_route_needs_no_token(url):
    assert call_json("GET", f"{url}/") == {"who": "None"}


@pytest.mark.parametrize(
    ("expected", "request_"),
    [
        (401, {}),
        (401, {"headers": {"Authorization": "Bearer wrong"}}),
        (401, {"headers": {"Authorization": "Basic s3cret"}}),
        (401, {"method": "POST", "path": "/"}),
        (403, {"headers": {**BEARER, "Host": "evil.example"}}),
        (403, {"headers": {**BEARER, "Host": "127.0.0.1.evil.example"}}),
        (403, {"headers": {**BEARER, "Origin": "http://127.0.0.1"}}),
        (403, {"path": "/", "headers": {"Origin": "null"}}),
        (415, {"method": "POST", "headers": BEARER, "body": "a=b"}),
        (413, {"method": "POST", "headers": BEARER, "body": "x" * 70_000}),
        (200, {"headers": {**BEARER, "Host": "127.0.0.1:9999"}}),
    ],
)
def test_what_the_guard_lets_through(url, expected, request_):
    assert status(url, **request_) == expected


def test_the_client_raises_the_class_that_the_error_names(url):
    with pytest.raises(Conflict) as caught:
        call_json("GET", f"{url}/conflict", token="s3cret")
    assert (caught.value.message, caught.value.hint) == ("not now", "wait")
    with pytest.raises(Unauthorized):
        call_json("GET", f"{url}/x")
    with pytest.raises(Forbidden):
        call_json("GET", url.replace("127.0.0.1", "localhost"), token="s3cret")


def test_an_answer_that_is_not_json_is_unreachable_for_call_json_only(url):
    assert call("GET", f"{url}/text", token="s3cret") == (200, b"hello")
    with pytest.raises(Unreachable, match="not JSON"):
        call_json("GET", f"{url}/text", token="s3cret")


def test_a_body_that_is_refused_half_read_gets_its_reason(url):
    assert call("POST", f"{url}/x", "x" * 10_000_000, token="s3cret")[0] == 413


def test_nobody_there_is_unreachable():
    with pytest.raises(Unreachable, match="does not answer"):
        call("GET", "http://127.0.0.1:1/", timeout_s=1)


def test_an_error_travels_and_comes_back():
    sent = Conflict("not now", "wait", ("line 1", "line 2"))
    back = from_wire(sent.to_wire(), "?")
    assert (type(back), back.message, back.hint, back.details) == (
        Conflict,
        sent.message,
        sent.hint,
        sent.details,
    )
    assert type(from_wire("nonsense", "HTTP 500")) is LabError


@pytest.mark.parametrize("text", ["", "127.0.0.1", ":80", "h:65536", "h:x"])
def test_a_wrong_address_is_refused(text):
    with pytest.raises(UsageProblem):
        split_address(text)
