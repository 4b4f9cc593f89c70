"""Bodies that no model can score, made of right ones and always the same, and an oracle that says which are right.

The oracle is json and explicit checks of types: it knows nothing of how the API reads a body.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

LARGEST = 3.4e38
# as JSON text: what stands where a value of a row belongs
VALUES = [
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "-3.5e38", "3.5e38", "9" * 40, "9" * 400, "9" * 4300,
    "9" * 5000, "-" + "9" * 400, "0." + "9" * 5000 + "e999", "1.5", "0", "-0", "1", "-1.25e-300", "01", "+1", "1.",
    ".5", "0x10", "1_000", "1e", "--1", "true", "false", "null", "True", "None", "nul", "undefined", "''", '""', '"70"',
    '" "', '"NaN"', '"null"', '"basic"', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d"',
    '"\\x41"', '"\\u12"', '"a',
    '"\ttab"', '"' + "long " * 5000 + '"', "[]", "[1]", "[null]", '["basic"]', "[[[]]]", "[1, 2, 3]", "{}",
    '{"a": 1}', '{"$ne": null}', '{"__proto__": {}}', "[" * 200 + "]" * 200, "[" * 5000, '{"a":' * 5000, "1 2", "1,",
    ",", ":", "}", "]", "/* 1 */ 1", "1 // one", '"\\"', "\x00", "1\x00", "\u00a01", '"\u2028"',
    '"é"', "2024-01-01", "b'1'",
    "Decimal('1')", "=1+1", "${jndi}", "<x/>",
]  # fmt: skip
NAMES = [
    "", " ", "rows", "Rows", "row", "fee ", "FEE", "id", "label", "version", "request_id", "__proto__", "__class__",
    "constructor", "$where", "a" * 10_000, "\u0000", "é", "日本", "😀", "a\nb", "0", "-1", "null",
    "copy", "keys", "items",
]  # fmt: skip
WHOLE = [
    b"", b" ", b"\n", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"null", b"true", b"0", b"-", b"1e999", b"NaN", b'""',
    b'"', b"[]", b"[{}]", b"{}", b"{", b"}", b"{]", b"{,}", b"{:}", b'{"', b'{"a"', b'{"a":', b'{"a":1,}', b"{'a': 1}",
    b"{1: 2}", b"fee=70.5&plan=basic", b"<row/>", b"fee,plan\n70,basic", b"--- {fee: 1}", b"GET / HTTP/1.1\r\n\r\n",
    b"[" * 100_000, b'{"rows":' * 20_000, b'{"a":' * 20_000, b"[" * 90 + b"]" * 90,
    b'{"rows": null}', b'{"rows": 3}', b'{"rows": {}}',
    b'{"rows": "all"}', b'{"rows": []}', b'{"rows": [[]]}', b'{"rows": [null]}', b'{"rows": [{}]}', b'{"rows": [1, 2]}',
    b'{"rows": true}', b'{"rows": [{"rows": []}]}', b'{"ROWS": []}', b'{"rows": [], "rows": []}',
]  # fmt: skip


@dataclass(frozen=True)
class Bodies:
    """Around a right ``row`` of a model with these features."""

    row: dict[str, Any]
    numeric: Sequence[str]
    categorical: Sequence[str]
    max_rows: int = 10_000
    seed: int = 0
    _random: random.Random = field(init=False, repr=False, compare=False, default_factory=random.Random)

    def is_right(self, body: bytes) -> bool:
        try:
            given = json.loads(body.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, RecursionError):
            return False
        if not isinstance(given, dict):
            return False
        if "rows" in given and "rows" not in self.row:
            rows = given["rows"]
            few = isinstance(rows, list) and 0 < len(rows) <= self.max_rows
            return few and len(given) == 1 and all(map(self._is_row, rows))
        return self._is_row(given)

    def _is_row(self, row: Any) -> bool:
        if not isinstance(row, dict) or set(row) != {*self.numeric, *self.categorical}:
            return False
        numbers, words = [row[name] for name in self.numeric], [row[name] for name in self.categorical]
        return all(map(_is_number, numbers)) and all(map(_is_word, words))

    @cached_property
    def all(self) -> list[bytes]:
        """Every body that was made of a right one, the few that came out right again among them."""
        self._random.seed(self.seed)
        return list(dict.fromkeys(self._made()))

    @property
    def wrong(self) -> list[bytes]:
        return [body for body in self.all if not self.is_right(body)]

    @property
    def right(self) -> list[bytes]:
        return [body for body in self.all if self.is_right(body)]

    def _made(self) -> Iterator[bytes]:
        one, two = self._text(self.row), self._text({"rows": [self.row, self.row]})
        yield from WHOLE
        for body in (one, two):
            yield from self._damaged(body)
            yield from self._wrapped(body)
            yield from (self._damaged_often(body) for _ in range(2000))
        yield from self._with_wrong_values()
        yield from self._with_other_names()
        yield from (self._random.randbytes(self._random.randrange(1, 200)) for _ in range(300))
        yield from (self._text(self._anything(4)) for _ in range(1500))
        yield self._text({f"field {n}": n for n in range(200_000)})
        yield self._text({"rows": [self.row] * (self.max_rows + 1)})
        yield self._text({"rows": [{f"field {n}": n for n in range(20)}] * self.max_rows})
        yield self._text(self.row | {next(iter(self.row)): "9" * 10**6})

    def _text(self, given: Any) -> bytes:
        return json.dumps(given).encode()

    def _damaged(self, body: bytes) -> Iterator[bytes]:
        yield from (body[:end] for end in range(len(body)))
        yield from (body[start:] for start in range(1, len(body)))
        for place, byte in enumerate(body):
            yield from (_changed(body, place, byte ^ 1 << bit) for bit in range(8))
            yield _changed(body, place, self._random.randrange(256))
            yield body[:place] + body[place + 1 :]
            for put in (b"\x00", b"\xff", b"\xc3", b'"', b"\\", b"{", b"]", b",", b"\xed\xa0\x80"):
                yield body[:place] + put + body[place:]

    def _damaged_often(self, body: bytes) -> bytes:
        """Pieces of it, moved about."""
        for _ in range(self._random.randrange(2, 5)):
            first, second, third = sorted(self._random.randrange(len(body) + 1) for _ in range(3))
            body = body[:first] + body[second:third] + body[first:second] + body[third - 1 :]
        return body

    def _wrapped(self, body: bytes) -> Iterator[bytes]:
        text = body.decode()
        for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037"):
            yield text.encode(encoding)
        yield text.replace("basic", "basé").encode("latin-1")
        yield gzip.compress(body, mtime=0)
        for before, after in (
            (b"[", b"]"),
            (b"", b"]"),
            (b"", b"}"),
            (b"", body),
            (b"(", b")"),
            (b"", b"\x00"),
            (b"'", b"'"),
        ):
            yield before + body + after
        for name in ("row", "rows", "data", "instances", "features", "inputs"):
            yield b'{"%s": %s}' % (name.encode(), body)
        yield self._text(text)

    def _with_wrong_values(self) -> Iterator[bytes]:
        right = {name: json.dumps(value) for name, value in self.row.items()}
        for name in right:
            for value in VALUES:
                wrong = _object(right | {name: value})
                yield wrong
                yield b'{"rows": [%s, %s]}' % (_object(right), wrong)
                yield b'{"rows": [%s, %s]}' % (wrong, _object(right))
                # the same name twice: the last one counts
                yield wrong[:-1] + b", " + json.dumps(name).encode() + b": " + value.encode() + b"}"
        for first, second in combinations(right, 2):
            for _ in range(60):
                yield _object(right | {first: self._random.choice(VALUES), second: self._random.choice(VALUES)})

    def _with_other_names(self) -> Iterator[bytes]:
        names = list(self.row)
        for size in range(len(names)):
            for kept in combinations(names, size):
                row = {name: self.row[name] for name in kept}
                yield self._text(row)
                yield self._text({"rows": [self.row, row]})
        for other in NAMES:
            yield self._text(self.row | {other: 1})
            yield self._text({"rows": [self.row], other: 1})
            yield self._text({"rows": [self.row, self.row | {other: None}]})
            for name in names:
                yield self._text({other if each == name else each: value for each, value in self.row.items()})

    def _anything(self, depth: int) -> Any:
        choose = self._random.choice
        kind = choose(["scalar", "list", "dict"]) if depth else "scalar"
        if kind == "list":
            return [self._anything(depth - 1) for _ in range(self._random.randrange(4))]
        if kind == "dict":
            names = [*self.row, "rows", "x"]
            return {choose(names): self._anything(depth - 1) for _ in range(self._random.randrange(5))}
        return choose([None, True, 0, -1, 10**30, 1.5, float("nan"), "", "basic", "é", self._random.random()])


def _object(texts: dict[str, str]) -> bytes:
    return ("{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "}").encode()


def _changed(body: bytes, place: int, byte: int) -> bytes:
    return body[:place] + bytes([byte]) + body[place + 1 :]


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _is_number(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -LARGEST <= value <= LARGEST  # NaN is neither, and an integer of any size can be compared


def _is_word(value: Any) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)  # half a pair is no text
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and value.is_integer())
