"""What servers do that they should not, by name: a line each. Add what you meet."""

from __future__ import annotations

import base64
import gzip
import json
import zlib

from tests.endpoint.disguises import DISGUISED, KEY, PLAIN
from tests.endpoint.wire import Part, Wire, answer

OK = "HTTP/1.1 200 OK\r\n"
CHUNKED = f"{OK}Transfer-Encoding: chunked\r\n\r\n"
ERRORS = ("302 Found", "400 Bad", "401 No", "404 Gone", "429 Wait", "500 Broken", "503 Busy")


def said(*pieces: bytes | str) -> Part:
    """Says it and hangs up."""
    return lambda wire: wire.say(*pieces)


def dripped(before: str, *pieces: bytes | str) -> Part:
    """Begins well, then goes on for ever, slowly."""
    return lambda wire: (wire.say(before), wire.drip(*pieces))


def flooded(before: str, piece: bytes) -> Part:
    """Begins well, then goes on for ever, fast."""
    return lambda wire: (wire.say(before), wire.flood(piece))


def echoed(written: str) -> Part:
    """A way to write the key, in turn in a list of models, an error, a thought, a text."""

    def part(wire: Wire) -> None:
        error = answer(json.dumps({"error": {"message": written, "code": written}}), "500 No")
        thought = answer(wire.proposed(written))
        turns = (error, thought, answer(wire.told(written)))
        wire.say(thought if wire.body is None else turns[wire.n_before % 3])

    return part


def bombed(content: bytes) -> Part:
    """A body that is short and unpacks to much, as a whole or in the middle of one."""
    return lambda wire: wire.say(
        answer(content) if wire.n_before % 2 else answer(wire.told(content.decode()))
    )


def in_status(status: str, *headers: str, body: str = "") -> Part:
    return said(answer(body, status, *headers))


# Ends by itself, and tells its time-out from nothing.
PROMPT: dict[str, Part] = {
    # hangs up
    "hangs up at once": said(),
    "resets at once": lambda wire: wire.reset(),
    "resets in the headers": lambda wire: (wire.say(OK), wire.reset()),
    "resets in the body": lambda wire: (wire.say(OK, "Content-Length: 9\r\n\r\n{"), wire.reset()),
    "hangs up in the status": said("HTTP/1."),
    "hangs up in the headers": said(OK, "Content-Le"),
    "hangs up in the body": said(OK, "Content-Length: 100\r\n\r\n{"),
    "hangs up in a chunk": said(CHUNKED, "ff\r\n{"),
    "hangs up in a trailer": said(CHUNKED, "2\r\n{}\r\n0\r\nX-Y: "),
    "hangs up in an error": said("HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n{"),
    "hangs up after an interim answer": said("HTTP/1.1 100 Continue\r\n\r\n"),
    # no HTTP
    "garbage": said(bytes(range(256))),
    "NULs": said(bytes(1000)),
    "greets like SSH": said("SSH-2.0-OpenSSH_9.6\r\n"),
    "speaks HTTP/2": said(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "speaks HTTP/0.9": said('{"choices": []}'),
    "speaks HTTP/9.9": said("HTTP/9.9 200 OK\r\n\r\n{}"),
    "answers with a TLS alert": said(b"\x15\x03\x03\x00\x02\x02\x28"),
    "a status of letters": said("HTTP/1.1 abc OK\r\n\r\n"),
    "a status of 5000 digits in HTML": said(f"&#{'9' * 5000};\r\n\r\n"),
    "status 0": said("HTTP/1.1 000 No\r\n\r\n"),
    "status 999": in_status("999 What"),
    "status 99999": said("HTTP/1.1 99999 What\r\n\r\n"),
    "two lengths": said(OK, "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a negative length": said(OK, "Content-Length: -5\r\n\r\n{}"),
    "a length of 10^4000": said(OK, f"Content-Length: 1{'0' * 4000}\r\n\r\n{{}}"),
    "a chunk of odd length": said(CHUNKED, "xyz\r\n{}\r\n0\r\n\r\n"),
    "a chunk of 2^64": said(CHUNKED, "ffffffffffffffffff\r\n{}"),
    "a header without a colon": said(OK, "no colon\r\n\r\n{}"),
    "a header of control characters": said(OK, b"X: \x00\x01\x1b[31m\r\n\r\n{}"),
    "an unknown transfer encoding": said(OK, "Transfer-Encoding: gzip\r\n\r\n{}"),
    # no answer of a model
    "no content": in_status("204 No Content"),
    "not modified": in_status("304 Not Modified"),
    "switches protocols": said("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nxyz"),
    "redirects to itself": in_status("307 Temporary Redirect", "Location: /v1/models"),
    "redirects to a file": in_status("302 Found", "Location: file:///etc/passwd"),
    "an empty body": in_status("200 OK"),
    "HTML": in_status("200 OK", body="<html>busy</html>"),
    "half a UTF-8 character": said(answer(b'{"choices": ["\xe2\x82')),
    "half a surrogate": said(answer(b'{"choices": [{"message": {"content": "\\ud800"}}]}')),
    "nothing but null": in_status("200 OK", body="null"),
    "NaN": lambda wire: wire.say(answer(wire.told("x", usage={"prompt_tokens": float("nan")}))),
    "endless tokens": lambda wire: wire.say(answer(wire.told("x", usage={"prompt_tokens": 1e999}))),
    "negative tokens": lambda wire: wire.say(answer(wire.told("x", usage={"prompt_tokens": -7}))),
    "tokens of 5000 digits": said(answer(b'{"usage": {"prompt_tokens": 1' + b"0" * 5000 + b"}}")),
    "names in a list twice": said(answer(b'{"data": 1, "data": [{"id": {"id": []}}, 7, null]}')),
    "choices without end": lambda wire: wire.say(answer(wire.told([[[{"text": []}]]]))),
    # too much
    "a body that is too long": lambda wire: wire.say(answer(b" " * (5 << 20))),
    "an error that is too long": lambda wire: wire.say(answer(b"x" * (5 << 20), "400 Bad")),
    "a body without end": flooded(f"{OK}\r\n", b" "),
    "a body of 10^15 bytes": flooded(f"{OK}Content-Length: 1{'0' * 15}\r\n\r\n", b"["),
    "chunks without end": flooded(CHUNKED, b"1000\r\n" + b" " * 4096 + b"\r\n"),
    "trailers without end": flooded(f"{CHUNKED}0\r\n", b"X-Y: z\r\n"),
    "headers without end": flooded(OK, b"X-Y: z\r\n"),
    "a header without end": flooded(f"{OK}X: ", b"z"),
    "a status without end": flooded("HTTP/1.1 200 ", b"OK"),
    "a line break now and then": dripped("", "\r\n"),
    "line breaks without end": flooded("", b"\r\n"),
    "a chunk's extension without end": flooded(f"{CHUNKED}1;", b"x=y;"),
    **{
        f"a body of status {status[:3]} without end": flooded(f"HTTP/1.1 {status}\r\n\r\n", b"x")
        for status in ERRORS
    },
    # packed
    "gzip": said(answer(gzip.compress(bytes(1 << 20)), "200 OK", "Content-Encoding: gzip")),
    "deflate": said(answer(zlib.compress(bytes(1 << 20)), "200 OK", "Content-Encoding: deflate")),
    "gzip in an error": said(answer(gzip.compress(b"x"), "401 No", "Content-Encoding: gzip")),
    "brotli": in_status("200 OK", "Content-Encoding: br", body="xxxx"),
    "packed twice": in_status("200 OK", "Content-Encoding: gzip, gzip", body="xxxx"),
    "gzip that it keeps to itself": said(answer(gzip.compress(KEY.encode()))),
    # when to come back
    "a wait of 10^9 seconds": in_status("429 Busy", "Retry-After: 1e9"),
    "an infinite wait": in_status("503 Busy", "Retry-After: inf"),
    "a wait that is no number": in_status("429 Busy", "Retry-After: nan"),
    "a wait in the past": in_status("429 Busy", "Retry-After: -1e9"),
    "a wait until a date": in_status("429 Busy", "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT"),
    # the key, below HTTP
    "the key for a status": said(f"HTTP/1.1 {KEY} OK\r\n\r\n"),
    "the key for a version": said(f"{KEY} 200 OK\r\n\r\n"),
    "the key for a reason": said(answer("{}", f"401 {KEY}")),
    "the key for a header": said(OK, f"{KEY}\r\n\r\n"),
    "the key for a header's name": said(answer("{}", "500 No", f"{KEY}: 1")),
    "the key for a header's value": said(answer("{}", "500 No", f"X-Echo: {KEY}")),
    "the key for a length": said(OK, f"Content-Length: {KEY}\r\n\r\n"),
    "the key for an encoding": said(OK, f"Transfer-Encoding: {KEY}\r\n\r\n"),
    "the key for a packing": in_status("200 OK", f"Content-Encoding: {KEY}"),
    "the key for a character set": in_status("200 OK", f"Content-Type: a/b; charset={KEY}"),
    "the key for a cookie": in_status("401 No", f"Set-Cookie: key={KEY}"),
    "the key for a challenge": in_status("401 No", f"WWW-Authenticate: Bearer realm={KEY}"),
    "the key for a place": in_status("302 Found", f"Location: http://127.0.0.1:9/{KEY}"),
    "the key for a wait": in_status("429 Busy", f"Retry-After: {KEY}"),
    "the key for a chunk's length": said(CHUNKED, f"{KEY}\r\n{{}}\r\n0\r\n\r\n"),
    "the key for a chunk's extension": said(CHUNKED, f"2;{KEY}\r\n{{}}\r\n0\r\n\r\n"),
    "the key for a trailer": said(CHUNKED, f"2\r\n{{}}\r\n0\r\nX: {KEY}\r\n\r\n"),
    "the key for an interim answer": said(f"HTTP/1.1 103 {KEY}\r\nX: {KEY}\r\n\r\n", answer("{}")),
    "the key for a body": said(answer(KEY)),
    "the key for a body in UTF-16": said(answer(KEY.encode("utf-16"))),
    "the key for an error's body": said(answer(KEY, "401 No")),
    "the key for an error's body in UTF-16": said(answer(KEY.encode("utf-16"), "401 No")),
    "the key for an error's body in UTF-32": said(answer(KEY.encode("utf-32"), "500 No")),
    "the key in HTML": said(answer(f"<html>{KEY}</html>", "403 No")),
    "the key for an error": said(answer(json.dumps({"error": KEY}), "400 No")),
    "the key in JSON in UTF-16": lambda wire: wire.say(
        answer(wire.proposed(KEY).decode().encode("utf-16"))
    ),
    "the key in JSON in UTF-32": lambda wire: wire.say(
        answer(wire.proposed(KEY).decode().encode("utf-32"))
    ),
    "the key after a mark of order": lambda wire: wire.say(
        answer(b"\xef\xbb\xbf" + wire.proposed(KEY))
    ),
    # the key, in the fields of an answer
    "the key in each field": lambda wire: wire.say(
        answer(wire.told(KEY, id=KEY, model=KEY, object=KEY, usage={KEY: KEY}, **{KEY: [KEY]}))
    ),
    "the key for an ending": lambda wire: wire.say(
        answer(json.dumps({"choices": [{"finish_reason": KEY, "message": {"content": KEY}}]}))
    ),
    "the key for a refusal": lambda wire: wire.say(
        answer(json.dumps({"choices": [{"message": {"refusal": KEY, "role": KEY}}]}))
    ),
    "the key for a value": lambda wire: wire.say(answer(wire.told(json.dumps({"mean": KEY})))),
    "the key for a parameter": lambda wire: wire.say(
        answer(wire.told(json.dumps({"mean": {KEY: 1}})))
    ),
    "the key for a name that stands twice": lambda wire: wire.say(
        answer(wire.told(f'{{"{KEY}": 1, "{KEY}": 2}}'))
    ),
    "the key that it was sent, in base64": lambda wire: wire.say(
        answer(wire.proposed(base64.b64encode(wire.key.encode()).decode()))
    ),
    **{f"the key, {name}": echoed(text) for name, text in PLAIN.items()},
    **{f"the key as {name}": echoed(text) for name, text in DISGUISED.items()},
}  # fmt: skip

# Goes on until it is left alone.
HOLDING: dict[str, Part] = {
    "never answers": lambda wire: wire.be_silent(),
    "drips its status": dripped("HTTP/1.1 200 ", "O"),
    "drips a header": dripped(f"{OK}X: ", "x"),
    "drips headers": dripped(OK, "X: y\r\n"),
    "drips interim answers": dripped("", "HTTP/1.1 100 Continue\r\n\r\n"),
    "drips early hints": dripped("", "HTTP/1.1 103 Early Hints\r\n", "Link: x\r\n", "\r\n"),
    "processes for ever": dripped("", "HTTP/1.1 102 Processing\r\n\r\n"),
    "drips a body of known length": dripped(f"{OK}Content-Length: 1000000\r\n\r\n", " "),
    "drips a body of unknown length": dripped(f"{OK}\r\n", " "),
    "drips chunks": dripped(CHUNKED, "1\r\n \r\n"),
    "drips a chunk's length": dripped(CHUNKED, "0"),
    "drips a chunk's extension": dripped(f"{CHUNKED}1;", "x"),
    "drips trailers": dripped(f"{CHUNKED}2\r\n{{}}\r\n0\r\n", "X: y\r\n"),
    "keeps the end to itself": lambda wire: (wire.say(CHUNKED, "2\r\n{}\r\n"), wire.be_silent()),
    "stops after its headers": lambda wire: (
        wire.say(OK, "Content-Length: 9\r\n\r\n"),
        wire.be_silent(),
    ),
    "never ends its headers": lambda wire: (wire.say(OK), wire.be_silent()),
    "interim, then silence": lambda wire: (
        wire.say("HTTP/1.1 100 Continue\r\n\r\n"),
        wire.be_silent(),
    ),
    "interim answers without end": flooded("", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "early hints without end": flooded("", b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"),
    "chunks of a byte, fast": flooded(CHUNKED, b"1\r\n \r\n"),
    **{
        f"drips a body of status {status[:3]}": dripped(f"HTTP/1.1 {status}\r\n\r\n", "x")
        for status in ERRORS
    },
    **{
        f"drips the key in a body of status {status[:3]}": dripped(
            f"HTTP/1.1 {status}\r\n\r\n", *KEY
        )
        for status in ERRORS
    },
}

_FULL = (4 << 20) - 1000  # bytes, as many as are taken
# As much as is taken, made to be costly.
COSTLY: dict[str, Part] = {
    "a million empty objects": bombed(b"[" + b"{}," * (_FULL // 6) + b"{}]"),
    "a million empty lists": bombed(b"[" + b"[]," * (_FULL // 6) + b"[]]"),
    "a million names": bombed(
        b'{"' + b'":0,"'.join(b"%x" % i for i in range(_FULL // 14)) + b'":0}'
    ),
    "a million numbers": bombed(b"[" + b"1.5," * (_FULL // 4) + b"1]"),
    "models without number": said(
        answer(json.dumps({"data": [{"id": f"model-{i:07}-instruct"} for i in range(100_000)]}))
    ),
    "a model of a long name": said(answer(json.dumps({"data": [{"id": "gpt-4o" * 600_000}]}))),
    "depth": bombed(b"[" * (_FULL // 2)),
    "escapes": bombed(b'"' + b"\\u0061" * (_FULL // 12) + b'"'),
    "parts of the key": bombed(b'"' + (KEY[:7].encode() + b"!") * (_FULL // 8) + b'"'),
    "nothing but backslashes": bombed(b"\\" * (_FULL // 4)),
    "letters that become eighteen": bombed("\ufdfa".encode() * (_FULL // 12)),
    "per cent": bombed(b"%2561" * (_FULL // 5)),
    "ampersands": bombed(b"&amp;#97;" * (_FULL // 9)),
}  # fmt: skip
