"""A load generator in a process of its own: requests signed beforehand, sent over connections that stay open.

Started as `python -m bench.load`; the job comes as JSON on standard input and the answer goes to standard output.
It ends after the job's seconds, or, when these are 0, when standard input does.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

_SERVICE, _TARGET = "redshift-serverless", "RedshiftServerless"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to send. `requests` are operations with their parameters; `pause` is seconds between two of a client."""

    host: str
    port: int
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    requests: Sequence[tuple[str, Mapping[str, Any]]]
    clients: int = 1
    seconds: float = 5.0
    pause: float = 0.0

    def encode(self) -> bytes:
        """One line for the generator's standard input."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(slots=True)
class _Outcome:
    """Latencies in seconds by operation, and answers that were no success."""

    latencies: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def main() -> None:
    """Read the job, carry it out, write what was measured."""
    job = Job(**json.loads(sys.stdin.buffer.readline()))
    messages = [(operation, _signed(job, operation, parameters)) for operation, parameters in job.requests]
    stop = threading.Event()
    outcomes = [_Outcome() for _ in range(job.clients)]
    threads = [
        threading.Thread(target=_client, args=(job, messages[number:] + messages[:number], stop, outcome))
        for number, outcome in enumerate(outcomes)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    if job.seconds:
        stop.wait(job.seconds)
    else:
        sys.stdin.buffer.read()
    stop.set()
    for thread in threads:
        thread.join()
    json.dump(_summed(outcomes, time.perf_counter() - started), sys.stdout)


def _summed(outcomes: Sequence[_Outcome], elapsed: float) -> dict[str, Any]:
    latencies: dict[str, list[float]] = {}
    for outcome in outcomes:
        for operation, values in outcome.latencies.items():
            latencies.setdefault(operation, []).extend(values)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    return {"seconds": elapsed, "latencies": latencies, "failures": failures[:5], "failed": len(failures)}


def _signed(job: Job, operation: str, parameters: Mapping[str, Any]) -> bytes:
    """The whole request, signed once: the signature holds for a quarter of an hour."""
    host = f"{job.host}:{job.port}"
    body = json.dumps(parameters).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{_TARGET}.{operation}"}
    request = AWSRequest(method="POST", url=f"http://{host}/", data=body, headers=headers)
    SigV4Auth(Credentials(job.access_key_id, job.secret_access_key), _SERVICE, job.region).add_auth(request)
    sent = {**dict(request.headers.items()), "Host": host, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST / HTTP/1.1\r\n{head}\r\n".encode() + body


def _client(
    job: Job, messages: Sequence[tuple[str, bytes]], stop: threading.Event, outcome: _Outcome
) -> None:
    with socket.create_connection((job.host, job.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for operation, message in cycle(messages):
            if stop.is_set():
                return
            before = time.perf_counter()
            connection.sendall(message)
            status, body = _answer(connection)
            outcome.latencies.setdefault(operation, []).append(time.perf_counter() - before)
            if status != 200:
                outcome.failures.append(f"{operation}: {status} {body[:200]!r}")
            if job.pause:
                time.sleep(job.pause)


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of one response, which has to give its length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    (length,) = (int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _received(connection)
    return int(lines[0].split()[1]), body


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 16)
    if not data:
        raise ConnectionError("the service closed the connection")
    return data


if __name__ == "__main__":
    main()
