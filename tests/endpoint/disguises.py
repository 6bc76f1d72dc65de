"""Ways to write a key, so that whoever reads a text knows it and whoever looks for it does not."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

KEY = "sk-proj-Q7xT2mLw9Rv4Zc8Yb1Nd6Kf3"


def escaped(text: str, form: str) -> str:
    """Each character by its code."""
    return "".join(form.format(ord(c)) for c in text)


def in_base64(text: str, before: str = "") -> str:
    """With something beside it."""
    return base64.b64encode(f"{before}{text}, beside it".encode()).decode()


def parts(length: int) -> list[str]:
    """The key in pieces."""
    return [KEY[i : i + length] for i in range(0, len(KEY), length)]


PLAIN = {
    "whole": KEY,
    "in a sentence": f"bad key {KEY}!",
    "twice": f"{KEY}{KEY}",
    "its beginning": KEY[:12],
    "its end": f"...{KEY[-9:]}",
    "both ends": f"{KEY[:8]}***{KEY[-8:]}",
    "in a field's name": json.dumps({KEY: 1}),
    "eight of it, anywhere": f"x{KEY[11:19]}x",
}
DISGUISED = {
    "JSON escapes": escaped(KEY, "\\u{:04x}"),
    "JSON escapes in capitals": escaped(KEY, "\\u{:04X}"),
    "JSON escapes of a part": escaped(KEY[5:14], "\\u{:04x}"),
    "every other character escaped": "".join(
        c if i % 2 else f"\\u{ord(c):04x}" for i, c in enumerate(KEY)
    ),
    "JSON escapes, twice": json.dumps(json.dumps(escaped(KEY, "\\u{:04x}"))),
    "Python escapes": escaped(KEY, "\\x{:02x}"),
    "long Python escapes": escaped(KEY, "\\U{:08x}"),
    "octal escapes": escaped(KEY, "\\{:03o}"),
    "JavaScript escapes": escaped(KEY, "\\u{{{:x}}}"),
    "escape() of JavaScript": escaped(KEY, "%u{:04x}"),
    "code points": escaped(KEY, "U+{:04X} "),
    "hexadecimal numbers": escaped(KEY, "0x{:02x}, "),
    "URL": escaped(KEY, "%{:02X}"),
    "URL, twice": quote(escaped(KEY, "%{:02x}")),
    "HTML": escaped(KEY, "&#{};"),
    "HTML, hexadecimal": escaped(KEY, "&#x{:x};"),
    "HTML without semicolons": escaped(KEY, "&#{} "),
    "HTML of a URL": html.escape(escaped(KEY, "&#37;{:02x}")),
    "hexadecimal": KEY.encode().hex(),
    "hexadecimal in capitals": KEY.encode().hex().upper(),
    "hexadecimal with colons": KEY.encode().hex(":"),
    "hexadecimal of a part": KEY[3:12].encode().hex(),
    "hexadecimal of capitals": KEY.upper().encode().hex(),
    "decimal codes": str(list(KEY.encode())),
    "base64": in_base64(KEY),
    "base64, a byte later": in_base64(KEY, "a"),
    "base64, two bytes later": in_base64(KEY, "ab"),
    "base64 of a part": in_base64(KEY[4:13], "abc"),
    "base64 of a part, a byte later": in_base64(KEY[9:17], "abcd"),
    "base64 of a part, two bytes later": in_base64(KEY[20:28], "abcde"),
    "base64 for URLs": base64.urlsafe_b64encode(f"??>{KEY}~~~".encode()).decode(),
    "base64 in lines": base64.encodebytes(KEY.encode() * 3).decode(),
    "base64 in a URL": quote(in_base64(KEY)),
    "base64 in JSON lines": json.dumps(base64.encodebytes(KEY.encode() * 3).decode()),
    "base64 of capitals": in_base64(KEY.upper()),
    "capitals": KEY.upper(),
    "small letters": KEY.lower(),
    "backwards": KEY[::-1],
    "spaced out": " ".join(KEY),
    "dashed": "-".join(KEY),
    "a letter a line": "\n".join(KEY),
    "a letter a line, in JSON": json.dumps("\n".join(KEY)),
    "zero-width spaces": "\u200b".join(KEY),
    "soft hyphens": "\xad".join(KEY),
    "NUL between": "\0".join(KEY),
    "NUL between, in JSON": json.dumps("\0".join(KEY)),
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in KEY),
    "mathematical letters": "".join(
        chr(0x1D400 + ord(c.lower()) - 97) if c.isalpha() else c for c in KEY
    ),
    "UTF-16 read as UTF-8": KEY.encode("utf-16-le").decode("utf-8"),
    "a list of its letters": json.dumps(list(KEY)),
    "a list of its parts": json.dumps(parts(5)),
    "split over fields": json.dumps({"id": KEY[:7], "model": KEY[7:14], "x": KEY[14:]}),
    "split over fields of JSON in JSON": json.dumps(
        json.dumps({"thought": KEY[:6], "because": KEY[6:12], "so": KEY[12:18]})
    ),
    "split over names": json.dumps({part: i for i, part in enumerate(parts(6))}),
    "split and escaped": json.dumps(
        json.dumps({"a": escaped(KEY[:6], "\\u{:04x}"), "b": escaped(KEY[6:12], "%{:02x}")})
    ),
    "a letter a field": json.dumps([{"token": c} for c in KEY]),
}
