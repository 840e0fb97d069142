"""The API: latency and throughput of a mix, and of GetSnapshot while a full snapshot is taken."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load import Job
from bench.measure import settle
from bench.results import Goal, Section, Series, Table
from bench.warehouse import Source, Warehouse

_CLIENTS = (1, 8)
_P99_GOAL = 0.020
_PAUSE = 0.005
_QUIET_SECONDS = 5.0
Request = tuple[str, Mapping[str, Any]]


def run_api(house: Warehouse, source: Source, *, duration: float) -> Section:
    """The mix at one and at eight clients, each operation listed, then GetSnapshot beside a running snapshot."""
    section = Section(name="API")
    mix = _mix(house, source)
    totals = Table(
        title="API, a mix of operations", columns=["clients", "requests/s", "p50", "p99", "slowest"]
    )
    each = Table(title="API, each operation of the mix at one client", columns=["", "p50", "p99", "requests"])
    for clients in _CLIENTS:
        settle(cold=False)
        found = _finished(_start(_job(house, mix, clients=clients, seconds=duration)))
        everything = Series(values=tuple(one for values in found["latencies"].values() for one in values))
        rate = len(everything.values) / found["seconds"]
        totals.rows.append(
            [str(clients), f"{rate:,.0f}", *_percentiles(everything), _ms(max(everything.values))]
        )
        section.raw[f"{clients} clients"] = {"requests_per_second": rate, **_summary(found["latencies"])}
        if clients == 1:
            for operation, values in sorted(found["latencies"].items()):
                each.rows.append([operation, *_percentiles(Series(values=tuple(values))), str(len(values))])
    totals.notes.append(
        "Signed requests over kept connections, sent by another process on the same machine; every signature is "
        "verified. The mix: " + ", ".join(sorted({operation for operation, _ in mix})) + "."
    )
    section.tables = [totals, each, _beside_snapshot(house, source, section)]
    return section


def _beside_snapshot(house: Warehouse, source: Source, section: Section) -> Table:
    table = Table(
        title="GetSnapshot, one client, a request every few milliseconds",
        columns=["", "p50", "p99", "slowest", "requests"],
    )
    name = f"loaded-{uuid.uuid4().hex[:8]}"
    house.rekey(source.namespace)
    house.snapshot(source.namespace, f"before-{name}")
    quiet = _polling(house, f"before-{name}", seconds=_QUIET_SECONDS)
    house.rekey(source.namespace)
    settle(cold=False)
    house.client.create_snapshot(namespaceName=source.namespace, snapshotName=name)
    with _load(house, f"before-{name}") as finish:
        _await_snapshot(house, name)
        busy = finish()
    for label, values in (("nothing else runs", quiet), ("a full snapshot runs", busy)):
        series = Series(values=tuple(values))
        table.rows.append([label, *_percentiles(series), _ms(max(values)), str(len(values))])
        section.raw[f"GetSnapshot while {label}"] = _summary({"GetSnapshot": values})
    p99 = Series(values=tuple(busy)).percentile(99)
    section.goals.append(
        Goal(
            text=f"p99 of GetSnapshot below {_ms(_P99_GOAL)} while a full snapshot runs",
            found=_ms(p99),
            reached=p99 < _P99_GOAL,
        )
    )
    return table


def _await_snapshot(house: Warehouse, name: str) -> None:
    # Seldom: we must not be the load that is measured.
    while house.client.get_snapshot(snapshotName=name)["snapshot"]["status"] == "CREATING":
        time.sleep(0.5)


def _polling(house: Warehouse, snapshot: str, *, seconds: float) -> list[float]:
    job = _job(house, [("GetSnapshot", {"snapshotName": snapshot})], seconds=seconds, pause=_PAUSE)
    return list(_finished(_start(job))["latencies"]["GetSnapshot"])


@contextmanager
def _load(house: Warehouse, snapshot: str) -> Iterator[Any]:
    """Ask for a snapshot all the time; what is yielded ends that and gives the latencies."""
    process = _start(_job(house, [("GetSnapshot", {"snapshotName": snapshot})], seconds=0.0, pause=_PAUSE))

    def finish() -> list[float]:
        return list(_finished(process)["latencies"]["GetSnapshot"])

    try:
        yield finish
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _mix(house: Warehouse, source: Source) -> list[Request]:
    """Many reads and a few writes, with the parameters of things that exist."""
    name = f"mix-{uuid.uuid4().hex[:8]}"
    arn = house.snapshot(source.namespace, name)["snapshotArn"]
    reads: list[Request] = [
        ("GetNamespace", {"namespaceName": source.namespace}),
        ("GetWorkgroup", {"workgroupName": source.workgroup}),
        ("GetSnapshot", {"snapshotName": name}),
        ("ListSnapshots", {"maxResults": 100}),
        ("ListNamespaces", {}),
        ("ListWorkgroups", {}),
        ("ListTagsForResource", {"resourceArn": arn}),
    ]
    writes: list[list[Request]] = [
        [
            ("UpdateSnapshot", {"snapshotName": name, "retentionPeriod": days}),
            ("TagResource", {"resourceArn": arn, "tags": [{"key": "day", "value": str(days)}]}),
        ]
        for days in range(1, 9)
    ]
    return [request for pair in writes for request in (*reads, pair[0], *reads, pair[1])]


def _job(house: Warehouse, requests: Sequence[Request], **options: Any) -> Job:
    address = house.local.address
    url = urlsplit(address.endpoint_url)
    assert url.hostname is not None
    assert url.port is not None
    return Job(
        host=url.hostname,
        port=url.port,
        region=address.region,
        access_key_id=address.access_key_id,
        secret_access_key=address.secret_access_key,
        requests=requests,
        **options,
    )


def _start(job: Job) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[1],
    )
    assert process.stdin is not None
    process.stdin.write(job.encode())
    process.stdin.flush()
    return process


def _finished(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    # communicate() closes standard input, which ends a job without a length.
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, "the load generator failed"
    found: dict[str, Any] = json.loads(output)
    assert not found["failed"], f"{found['failed']} requests failed: {found['failures']}"
    return found


def _percentiles(series: Series) -> list[str]:
    return [_ms(series.percentile(50)), _ms(series.percentile(99))]


def _ms(value: float) -> str:
    return f"{value * 1000:.2f} ms"


def _summary(latencies: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        operation: {
            "requests": len(values),
            **{f"p{p}_seconds": Series(values=tuple(values)).percentile(p) for p in (50, 90, 99)},
            "slowest_seconds": max(values),
        }
        for operation, values in latencies.items()
    }
