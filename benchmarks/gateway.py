"""What does a call cost in the gateway? Ours with everything on, LiteLLM's proxy and Portkey's gateway, in one run.

    .venv/bin/python benchmarks/gateway.py [--quick] [--peers FOLDER] [--memory CALLS]

One gateway at a time has a core to itself; the mock upstream, the callers, PostgreSQL (with fsync) and Redis have the
others. Ours checks keys, limits of the team and of the key, budgets of both, reserves and settles each call durably,
and writes the request log. LiteLLM and Portkey only route: no key store, no budget, no log. They are installed into
FOLDER (a cache folder by default) the first time; Portkey needs Node.

Calls per CPU second and CPU milliseconds count the gateway's own process with its threads and children, user and
system. Added latency is a percentile through the gateway less that of the mock called directly, in the same round.
Figures are medians of the rounds. The last line is one JSON object.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from portal.embedded import free_port, fresh_servers

WIRE = str(ROOT / "benchmarks" / "wire.py")
# The newest LiteLLM whose own requirements could be met where this was last run; --litellm takes another.
LITELLM, PORTKEY = "litellm[proxy]<1.109", "@portkey-ai/gateway@1.15.2"
CALLERS = (1, 16, 64)
STREAM_CALLERS = 32
AT = 64  # the callers at which CPU a call is compared
PROMPT = "Explain in a few sentences why the sky is blue, for a reader of about ten years. " * 6
CORES = sorted(os.sched_getaffinity(0))
OURS, MEMORY, LITE, PORT_KEY = "modelport", "without ledger", "litellm", "portkey"


class Failed(RuntimeError):
    """A load that did not get the answers it asked for: what it measured says nothing."""


@dataclass
class Gateway:
    """One that runs. `headers` are what its callers send."""

    name: str
    port: int
    process: psutil.Process
    headers: dict[str, str]

    def cpu_s(self) -> float:
        family = [self.process, *self.process.children(recursive=True)]
        return sum(times.user + times.system for times in (one.cpu_times() for one in family))

    def memory(self) -> int:
        return int(sum(one.memory_info().rss for one in [self.process, *self.process.children(recursive=True)]))


@dataclass
class Found:
    """One measurement: seconds, calls, CPU seconds of the gateway, latencies."""

    calls: int
    seconds: float
    cpu_s: float
    total_s: list[float] = field(repr=False)
    first_s: list[float] = field(repr=False)

    @property
    def cpu_ms(self) -> float:
        return self.cpu_s * 1000 / self.calls


def main() -> None:
    options = _options()
    names = [name for name in (OURS, MEMORY, LITE, PORT_KEY) if not options.only or name in options.only.split(",")]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="modelport-bench-")))
        env = stack.enter_context(fresh_servers(folder, durable=True))
        paced, burst = free_port(), free_port()
        for port, pace in ((paced, options.pace_ms), (burst, 0)):
            stack.enter_context(_running([sys.executable, WIRE, "mock", str(port), str(pace)], cores=CORES[1:]))
        for child in psutil.Process().children(recursive=True):
            child.cpu_affinity(CORES[1:] or CORES)
        gateways = [stack.enter_context(_started(name, paced, env, folder, options)) for name in names]
        if options.memory:
            _watch_memory(gateways[0], options.memory)
            return
        rounds = [_round(gateways, paced, options) for _ in range(options.rounds)]
        _report(names, rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2000, help="of ours at 64 callers; the others get fewer")
    parser.add_argument("--pace-ms", type=float, default=5.0, help="between two chunks of a stream")
    parser.add_argument("--only", default="", help="names of gateways, with commas")
    parser.add_argument("--litellm", default=LITELLM)
    parser.add_argument("--memory", type=int, default=0, metavar="CALLS", help="watch our memory over so many calls")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "modelport-bench")
    parser.add_argument("--peers", type=Path, default=cache)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.calls = 1, 600
    if options.memory:
        options.only = OURS
    return options


# --- the gateways -----------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _started(name: str, mock: int, env: dict[str, str], folder: Path, options: argparse.Namespace) -> Iterator[Gateway]:
    port = free_port()
    bearer = {"authorization": "Bearer sk-bench"}
    extra: dict[str, str] = {}
    if name in {OURS, MEMORY}:
        module = "portal.asgi:gateway" if name == OURS else "benchmarks.memory_ledger:gateway"
        bearer = {"authorization": f"Bearer {_our_key(mock, env)}"}
        argv = [sys.executable, "-m", "uvicorn", module, "--port", str(port), "--loop", "uvloop"]
        argv += ["--http", "httptools", "--no-access-log", "--log-level", "warning"]
        extra = env
    elif name == LITE:
        argv = [*_litellm(options), "--config", str(_litellm_config(mock, folder)), "--port", str(port)]
        extra = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    else:
        argv = ["node", str(_portkey(options)), f"--port={port}", "--headless"]
        extra = {"NODE_ENV": "production"}
        bearer = {
            "authorization": "Bearer sk-mock",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{mock}/v1",
        }
    with _running(argv, cores=CORES[:1], env=extra, log=folder / f"{port}.log") as process:
        gateway = Gateway(name, port, psutil.Process(process.pid), bearer)
        _wait(gateway, process, folder / f"{port}.log")
        yield gateway


_key: list[str] = []


def _our_key(mock: int, env: dict[str, str]) -> str:
    if not _key:
        argv = [sys.executable, str(ROOT / "benchmarks" / "gateway_setup.py"), f"http://127.0.0.1:{mock}/v1"]
        done = subprocess.run(argv, env=os.environ | env, check=True, stdout=subprocess.PIPE, text=True)
        _key.append(done.stdout.split()[-1])
    return _key[0]


def _litellm(options: argparse.Namespace) -> list[str]:
    """In an environment of its own, with what makes it fast: bytecode cached, uvloop and httptools there."""
    home = options.peers / "litellm"
    command = home / "bin" / "litellm"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "pip"), "install", "-q", options.litellm, "opentelemetry-sdk", "uvloop", "httptools"]
        subprocess.run(pip, check=True)
    return [str(command)]


def _litellm_config(mock: int, folder: Path) -> Path:
    model = {"model": "openai/mock", "api_base": f"http://127.0.0.1:{mock}/v1", "api_key": "sk-mock"}
    config = {
        "model_list": [{"model_name": "mock", "litellm_params": model}],
        "general_settings": {"master_key": "sk-bench"},
        "litellm_settings": {"telemetry": False},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def _portkey(options: argparse.Namespace) -> Path:
    home = options.peers / "portkey"
    script = home / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not script.exists():
        if not shutil.which("npm"):
            sys.exit(
                "Portkey's gateway needs Node and npm; leave it out with --only modelport,'without ledger',litellm"
            )
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--prefix", str(home), PORTKEY], check=True)
    return script


@contextlib.contextmanager
def _running(
    argv: list[str], *, cores: list[int], env: dict[str, str] | None = None, log: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with log.open("wb") if log else open(os.devnull, "wb") as out:
        process = subprocess.Popen(argv, env=clean | (env or {}), cwd=ROOT, stdout=out, stderr=out)
    psutil.Process(process.pid).cpu_affinity(cores or CORES)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(gateway: Gateway, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end, problem = time.monotonic() + 120, ""
    body = json.dumps(_body(stream=False)).encode()
    headers = gateway.headers | {"content-type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{gateway.port}/v1/chat/completions", body, headers)
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:
                if b"Modelport answers" in answer.read():
                    return
        except OSError as error:
            problem = str(error)
        time.sleep(0.3)
    sys.exit(f"{gateway.name} did not answer: {problem}\n{log.read_text(errors='replace')[-3000:]}")


# --- measuring --------------------------------------------------------------------------------------------------
def _body(*, stream: bool) -> dict[str, Any]:
    body = {"model": "mock", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 200, "stream": stream}
    return body | ({"stream_options": {"include_usage": True}} if stream else {})


def _load(
    port: int, headers: dict[str, str], *, callers: int, calls: int, stream: bool, gateway: Gateway | None = None
) -> Found:
    asked = {
        "port": port,
        "path": "/v1/chat/completions",
        "headers": headers,
        "callers": callers,
        "calls": calls,
        "body": _body(stream=stream),
    }
    argv = [sys.executable, WIRE, "load", json.dumps(asked)]
    before = gateway.cpu_s() if gateway else 0.0
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    psutil.Process(process.pid).cpu_affinity(CORES[1:] or CORES)
    said = json.loads(process.communicate()[0])
    cpu_s = (gateway.cpu_s() if gateway else 0.0) - before
    if said["errors"]:
        raise Failed(f"{gateway.name if gateway else 'the mock'}: {len(said['errors'])} errors: {said['errors'][0]}")
    return Found(len(said["total_s"]), said["seconds"], cpu_s, said["total_s"], said["first_s"])


Round = dict[tuple[str, str], Found]


def _round(gateways: list[Gateway], mock: int, options: argparse.Namespace) -> Round:
    found: Round = {}
    for callers in CALLERS:
        calls = options.calls if callers > 1 else options.calls // 5
        found["direct", str(callers)] = _load(mock, {}, callers=callers, calls=calls, stream=False)
        for gateway in gateways:
            # A slow one gets fewer calls: what counts is time measured.
            some = calls if gateway.name in {OURS, MEMORY} else max(50, calls // (8 if gateway.name == LITE else 2))
            _load(gateway.port, gateway.headers, callers=callers, calls=some // 4, stream=False, gateway=gateway)
            found[gateway.name, str(callers)] = _load(
                gateway.port, gateway.headers, callers=callers, calls=some, stream=False, gateway=gateway
            )
    streams = max(64, options.calls // 4)
    found["direct", "stream"] = _load(mock, {}, callers=STREAM_CALLERS, calls=streams, stream=True)
    for gateway in gateways:
        some = streams if gateway.name in {OURS, MEMORY} else max(64, streams // 3)
        try:
            found[gateway.name, "stream"] = _load(
                gateway.port, gateway.headers, callers=STREAM_CALLERS, calls=some, stream=True, gateway=gateway
            )
        except Failed as failure:
            if gateway.name == OURS:
                raise
            print(f"no streams: {str(failure).splitlines()[0]}")
    return found


def _report(names: list[str], rounds: list[Round]) -> None:
    def middle(of: Any) -> float:
        return statistics.median(of(found) for found in rounds)

    def added(found: Round, name: str, level: str, share: float, *, first: bool = False) -> float:
        through, direct = found[name, level], found["direct", level]
        one, two = (through.first_s, direct.first_s) if first else (through.total_s, direct.total_s)
        return (_percentile(one, share) - _percentile(two, share)) * 1000

    print(f"{'gateway':16} {'callers':>7} {'calls/s':>8} {'/CPU s':>8} {'CPU ms':>7}  added ms: p50    p95    p99")
    for level in map(str, CALLERS):
        for name in names:
            each = middle(lambda found, n=name, at=level: found[n, at].calls / found[n, at].seconds)
            cpu = middle(lambda found, n=name, at=level: found[n, at].cpu_ms)
            p = [middle(lambda found, n=name, at=level, s=s: added(found, n, at, s)) for s in (0.5, 0.95, 0.99)]
            rest = f"{p[0]:>13.1f} {p[1]:>6.1f} {p[2]:>6.1f}"
            print(f"{name:16} {level:>7} {each:>8.0f} {1000 / cpu:>8.0f} {cpu:>7.2f}  {rest}")
    print(f"\n{'streams':16} {'callers':>7} {'/s':>8} {'/CPU s':>8} {'CPU ms':>7}  added to first token, ms: p50   p95")
    for name in (name for name in names if all((name, "stream") in found for found in rounds)):
        each = middle(lambda found, n=name: found[n, "stream"].calls / found[n, "stream"].seconds)
        cpu = middle(lambda found, n=name: found[n, "stream"].cpu_ms)
        p = [middle(lambda found, n=name, s=s: added(found, n, "stream", s, first=True)) for s in (0.5, 0.95)]
        print(f"{name:16} {STREAM_CALLERS:>7} {each:>8.0f} {1000 / cpu:>8.0f} {cpu:>7.2f}  {p[0]:>28.1f} {p[1]:>5.1f}")

    at = str(AT)
    said: dict[str, float] = {}
    for peer, label in ((LITE, "litellm"), (PORT_KEY, "portkey")):
        if {OURS, peer} <= set(names):
            said[f"calls_per_cpu_vs_{label}"] = middle(lambda f, p=peer: f[p, at].cpu_ms / f[OURS, at].cpu_ms)
    said["cpu_ms_per_call"] = middle(lambda f: f[OURS, at].cpu_ms)
    said["cpu_ms_per_stream"] = middle(lambda f: f[OURS, "stream"].cpu_ms)
    if {OURS, MEMORY} <= set(names):
        said["durability_cpu_ms"] = middle(lambda f: f[OURS, at].cpu_ms - f[MEMORY, at].cpu_ms)
        said["durability_p50_ms"] = middle(
            lambda f: (_percentile(f[OURS, "1"].total_s, 0.5) - _percentile(f[MEMORY, "1"].total_s, 0.5)) * 1000
        )
    print(json.dumps({name: round(value, 3) for name, value in said.items()}))


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _watch_memory(gateway: Gateway, calls: int) -> None:
    """Resident memory in tenths of the way; the first tenth fills caches."""
    sizes = []
    for tenth in range(10):
        _load(gateway.port, gateway.headers, callers=64, calls=calls // 10, stream=False, gateway=gateway)
        sizes.append(gateway.memory() / 1024 / 1024)
        print(f"{(tenth + 1) * calls // 10:>8} calls  {sizes[-1]:.1f} MiB", flush=True)
    print(json.dumps({"memory_mib_after_a_tenth": round(sizes[0], 1), "memory_mib_at_the_end": round(sizes[-1], 1)}))


if __name__ == "__main__":
    main()
