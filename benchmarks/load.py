"""The load generator: a process of its own, so that it takes nothing from the server's core.

python -m benchmarks.load HOST PORT PATH CONNECTIONS SECONDS BODIES-FILE  prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

WARM_UP = 0.2  # of the time, not counted


class Client(asyncio.Protocol):
    """One connection that sends its next request when the last one is answered."""

    def __init__(self, requests: list[bytes], run: Run, place: int) -> None:
        self.requests, self.run, self.next = requests, run, place
        self.buffer = bytearray()
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.send()

    def send(self) -> None:
        self.next = (self.next + 1) % len(self.requests)
        self.sent = time.perf_counter()
        self.transport.write(self.requests[self.next])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = bytes(self.buffer[:head]).lower()
        at = lower.find(b"content-length:")
        if at < 0:  # a chunked answer ends with an empty chunk
            if not self.buffer.endswith(b"0\r\n\r\n"):
                return
        elif len(self.buffer) < head + 4 + int(lower[at + 15 :].split(b"\r\n", 1)[0]):
            return
        self.run.answered(time.perf_counter() - self.sent, self.buffer[9:12])
        self.buffer.clear()
        if not self.run.over():
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.lost(exc)


class Run:
    def __init__(self, seconds: float, connections: int) -> None:
        self.begun = time.perf_counter()
        self.counted_from = self.begun + WARM_UP * seconds
        self.until = self.begun + seconds
        self.latencies: list[float] = []
        self.statuses: dict[str, int] = {}
        self.open = connections
        self.done = asyncio.get_running_loop().create_future()

    def answered(self, seconds: float, status: bytes) -> None:
        if self.counted_from <= time.perf_counter() < self.until:
            self.latencies.append(seconds)
        name = status.decode()
        self.statuses[name] = self.statuses.get(name, 0) + 1

    def over(self) -> bool:
        return time.perf_counter() >= self.until

    def lost(self, error: Exception | None) -> None:
        if error or not self.over():
            self.statuses["lost"] = self.statuses.get("lost", 0) + 1
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


async def main(host: str, port: int, path: str, connections: int, seconds: float, bodies: list[bytes]) -> dict:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    run = Run(seconds, connections)
    loop = asyncio.get_running_loop()
    for number in range(connections):
        await loop.create_connection(lambda n=number: Client(requests, run, n * 7), host, port)
    await run.done
    taken = sorted(run.latencies)
    if not taken:
        sys.exit(f"nothing was answered after the warm-up: {run.statuses}")
    return {
        "per_second": len(taken) / (run.until - run.counted_from),
        "p50_ms": 1000 * taken[len(taken) // 2],
        "p99_ms": 1000 * taken[int(len(taken) * 0.99)],
        "statuses": run.statuses,
    }


if __name__ == "__main__":
    host, port, path, connections, seconds, file = sys.argv[1:]
    bodies = Path(file).read_bytes().splitlines()
    print(json.dumps(uvloop.run(main(host, int(port), path, int(connections), float(seconds), bodies))))
