"""A process that spools request after request until it is killed, and says which it acknowledged."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from driftloop.spool import SpoolWriter


def line(number: int, *, rows: int = 1, time: int = 1_764_500_000_000_000_000, version: str = "1") -> bytes:
    """One request as the API spools it: ids are r0, r1, …, fee is the number, the score a tenth of its last digit."""
    said = {
        "id": f"r{number}",
        "t": time + number,
        "v": version,
        "ms": 0.25,
        "rows": [{"fee": float(number), "plan": "basic", "age": None} for _ in range(rows)],
        "p": [number % 10 / 10] * rows,
        "l": ["no"] * rows,
    }
    return json.dumps(said).encode()


if __name__ == "__main__":
    writer = SpoolWriter(Path(sys.argv[1]), sys.argv[2], 200, 100)
    for n in range(10**9):
        if writer.put(line(n)):
            sys.stdout.write(f"{n}\n")
            sys.stdout.flush()
