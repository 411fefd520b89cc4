"""`scripts/up`: the whole portal from one command, and all of it gone at Ctrl-C. Django is only in its children."""

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

import httpx

from portal import embedded
from portal.embedded import ROOT, NotStarted, Postgres, Redis
from portal.processes import Program, Supervisor, adopt_orphans, end_all, reap, tagged

READY_WITHIN_S = 60.0
MODEL_WITHIN_S = 30.0
# Calls in flight may go on for so long when the portal is asked to stop. Who runs uvicorn behind a load balancer
# gives it more (docs/gateway.md).
DRAIN_S = 3
MOST_WEB_PROCESSES = 64
SECRETS = ("SECRET_KEY", "API_KEY_PEPPER", "FIELD_KEY")
EXPORTED = ("DATABASE_URL", "REDIS_URL", "DATA_DIR", "PORT", "EMBEDDED", "INSTANCE_ID", "SMOLLM2_GGUF", "PUBLIC_URL")


class Failure(Exception):
    """A start that can't go on: what failed, what to do about it, and a log that may tell more."""

    def __init__(self, what: str, *, hint: str, log: Path | None = None) -> None:
        super().__init__(what)
        self.hint = hint
        self.log = log


class Asked(Exception):
    """Somebody asked the portal to stop (Ctrl-C, SIGTERM, SIGHUP)."""


class Portal:
    """One copy of the portal on one DATA_DIR. `start` and `stop` may be cut short at any point by Asked."""

    def __init__(self, data_dir: Path, *, host: str, port: int) -> None:
        self.data_dir = data_dir
        self.host = host
        self.port = port
        self.began = time.monotonic()
        self.supervisor = Supervisor(log_dir=data_dir / "logs", run_dir=data_dir / "run")
        self.postgres: Postgres | None = None
        self.redis: Redis | None = None
        self.env: dict[str, str] = {}
        self.demo: dict[str, str] | None = None

    def start(self) -> None:
        """Everything up and answering, or Failure."""
        self.supervisor.stop_leftovers()
        _refuse_taken_port(self.host, self.port)
        self.env = self._environment()
        self._start_stores()
        names = ("SMOLLM2_GGUF", "PUBLIC_URL", *EXPORTED, *SECRETS)
        text = "".join(f"{name}={self.env[name]}\n" for name in dict.fromkeys(names) if self.env.get(name))
        embedded.write_private(self.data_dir / "env", text)
        self._prepare()
        self._start_portal()

    def run(self) -> NoReturn:
        """Keep it running until somebody asks it to stop."""
        while True:
            self.supervisor.tend()
            time.sleep(0.1)

    def stop(self) -> None:
        """Web, worker and beat first, then the engines, then the stores: nothing is left after at most 10 s."""
        self.supervisor.stop(("web", "worker", "beat"), within_s=5.0)
        self._stop_engines()
        self.supervisor.stop(("redis", "postgres"), within_s=2.0)
        if self.postgres:
            self.postgres.close()
        (self.data_dir / "env").unlink(missing_ok=True)
        reap({})

    def show(self) -> None:
        url = self.env["PUBLIC_URL"]
        say("")
        say(f"Modelport runs on {url}")
        self.show_demo()
        key = self.demo["key"] if self.demo else "$KEY"
        body = '{"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Say hello."}]}'
        say("  Try it:")
        say(f"    curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\")
        say(f"      -H 'Content-Type: application/json' -d '{body}'")
        say("")
        say("  Ctrl-C stops everything. The data stays in " + str(self.data_dir))

    def show_demo(self) -> None:
        """The login and the key, at the one start that made them; afterwards how to get new ones."""
        if self.demo:
            say(f"  Login:    {self.demo['email']}")
            say(f"  Password: {self.demo['password']}")
            say(f"  API key:  {self.demo['key']}")
            say("  The password and the key are shown this once. Keep them.")
            return
        where = "" if self.data_dir == ROOT / "var" else f"DATA_DIR={self.data_dir} "
        say("  The login and the key were shown at the first start. For new ones:")
        say(f"    {where}scripts/manage changepassword demo@modelport.local")
        say(f"    {where}scripts/manage issue_key --team demo --name NAME")

    def _environment(self) -> dict[str, str]:
        """What the children get: what was given to us, completed by what this DATA_DIR keeps."""
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        kept = _kept_secrets(self.data_dir / "secrets.json")
        for name in SECRETS:
            if not env.get(name) and not env.get(f"{name}_FILE"):
                env[name] = kept[name]
        shown = "127.0.0.1" if self.host in {"0.0.0.0", "::", "localhost"} else self.host  # noqa: S104
        return (
            env
            | {
                "DATA_DIR": str(self.data_dir),
                "PORT": str(self.port),
                "EMBEDDED": "1",
                "INSTANCE_ID": _instance(self.data_dir / "instance"),
                "SMOLLM2_GGUF": env.get("SMOLLM2_GGUF") or embedded.smollm2_gguf(),
                "PUBLIC_URL": env.get("PUBLIC_URL") or f"http://{shown}:{self.port}",
                "GATEWAY_URL": env.get("GATEWAY_URL") or f"http://{shown}:{self.port}",
                "DJANGO_SETTINGS_MODULE": "portal.settings",
                "PYTHONUNBUFFERED": "1",
            }
            | self._processes()
        )

    def _processes(self) -> dict[str, str]:
        """How many web processes; several of them sum their metrics in a folder."""
        many = os.environ.get("WEB_PROCESSES", "1")
        if not many.isdigit() or not 1 <= int(many) <= MOST_WEB_PROCESSES:
            raise Failure(
                f"WEB_PROCESSES is {many!r}",
                hint=f"Set it to a number from 1 to {MOST_WEB_PROCESSES}.",
            )
        if many == "1":
            return {"WEB_PROCESSES": many}
        metrics = self.data_dir / "run" / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir(parents=True)
        return {"WEB_PROCESSES": many, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}

    def _start_stores(self) -> None:
        """PostgreSQL and Redis, each only if no URL was given; both come up at the same time."""
        if not self._given("DATABASE_URL"):
            self.postgres = Postgres(self.data_dir / "postgres")
        if not self._given("REDIS_URL"):
            self.redis = Redis(self.data_dir / "redis")
        stores: dict[str, Postgres | Redis] = {}
        stores |= {"postgres": self.postgres} if self.postgres else {}
        stores |= {"redis": self.redis} if self.redis else {}
        for name, store in stores.items():
            with self._step("Starting " + {"postgres": "PostgreSQL", "redis": "Redis"}[name], log=name):
                store.prepare()
                self.supervisor.start(store.program(self.env))
                if name == "postgres":
                    self.env["DATABASE_URL"] = store.url()
                else:
                    self.env["REDIS_URL"] = store.url()
        for name, store in stores.items():
            with self._step("", log=name):
                store.wait(alive=lambda name=name: self.supervisor.is_running(name))  # type: ignore[misc]

    def _given(self, name: str) -> bool:
        return bool(self.env.get(name) or self.env.get(f"{name}_FILE"))

    def _prepare(self) -> None:
        """Migrations, catalog, demo team, platform models: one Python, which tells its steps line by line."""
        log = self.supervisor.log("prepare")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "prepare"],
                env=self.env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,
                text=True,
            )
        try:
            assert process.stdout  # noqa: S101 it was asked for
            self._follow(process.stdout)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        if status:
            raise Failure("Preparing the database failed", hint="Mend what the log names, then start again.", log=log)

    def _follow(self, lines: IO[str]) -> None:
        for line in lines:
            said: dict[str, Any] = json.loads(line)
            if "step" in said:
                self._tell(said["step"])
            if "demo" in said:
                self.demo = said["demo"]

    def _start_portal(self) -> None:
        self._tell("Starting web, gateway, worker and beat")
        for name, words in _commands(self.host, self.port, self.data_dir, self.env).items():
            argv = (sys.executable, "-m", *shlex.split(words))
            self.supervisor.start(Program(name=name, argv=argv, env=self.env, cwd=ROOT))
        state = self._wait_until_ready()
        if state["waking"]:
            self._tell("Waking the hosted model (" + ", ".join(state["waking"]) + ")")
            self._wait_for_models()

    def _wait_until_ready(self) -> dict[str, Any]:
        end = time.monotonic() + READY_WITHIN_S
        while not (state := self._readyz()).get("ready"):
            self.supervisor.tend()
            if time.monotonic() > end:
                missing = state.get("missing", ["web"])
                name = "worker" if "worker" in missing else "web"
                raise Failure(
                    f"Not ready after {READY_WITHIN_S:.0f} s; missing: {', '.join(missing)}",
                    hint=f"Look into {self.data_dir / 'logs'}.",
                    log=self.supervisor.log(name),
                )
            time.sleep(0.1)
        return state

    def _wait_for_models(self) -> None:
        end = time.monotonic() + MODEL_WITHIN_S
        while self._readyz().get("waking", ["web"]):
            self.supervisor.tend()
            if time.monotonic() > end:
                say("           not awake yet; the portal goes on without it, its page under Deployments says why")
                return
            time.sleep(0.2)

    def _readyz(self) -> dict[str, Any]:
        try:
            answer = httpx.get(f"http://{_reachable(self.host)}:{self.port}/readyz", timeout=5, trust_env=False)
            return dict(answer.json())
        except (httpx.HTTPError, ValueError):
            return {}

    def _stop_engines(self) -> None:
        """Engines and the shims that note their end are asked together; what stays is killed."""
        instance = self.env.get("INSTANCE_ID")
        if not instance:
            return
        end_all(tagged(f"--tag={instance}:"), within_s=2.0)

    @contextlib.contextmanager
    def _step(self, title: str, *, log: str) -> Iterator[None]:
        if title:
            self._tell(title)
        try:
            yield
        except (NotStarted, OSError) as error:
            hint = "See the log below; DATABASE_URL and REDIS_URL choose servers of your own instead."
            raise Failure(str(error), hint=hint, log=self.supervisor.log(log)) from error

    def _tell(self, title: str) -> None:
        say(f"  [{time.monotonic() - self.began:5.1f} s] {title}")


def main() -> int:
    """Exit status 0 after an asked stop, 1 when the portal could not start."""
    try:
        data_dir, host, port = _choices()
        with _only_copy(data_dir):
            return _run(Portal(data_dir, host=host, port=port))
    except Failure as failure:
        return _explain(failure)


def _run(portal: Portal) -> int:
    adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ask)
    shown = False
    try:
        portal.start()
        portal.show()
        shown = True
        portal.run()
    except Asked:
        say("Stopping ...")
        return 0
    except Failure as failure:
        return _explain(failure)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if portal.demo and not shown:
            portal.show_demo()
        portal.stop()
        say("Everything has stopped.")


def _ask(_number: int, _frame: FrameType | None) -> None:
    raise Asked


def _explain(failure: Failure) -> int:
    say("")
    say(f"Failed: {failure}")
    if failure.log and failure.log.exists():
        lines = failure.log.read_text(errors="replace").splitlines()[-15:]
        say(f"The end of {failure.log}:")
        for line in lines:
            say(f"    {line}")
    say(f"What to do: {failure.hint}")
    return 1


def _choices() -> tuple[Path, str, int]:
    """DATA_DIR, HOST and PORT as given; the folder is made. Raises Failure with what to change."""
    data_dir = embedded.data_dir()
    try:
        for folder in ("logs", "run", "static", "engines"):
            (data_dir / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Failure(f"DATA_DIR {data_dir} can't be used: {error}", hint="Give a folder you may write to.") from error
    text = os.environ.get("PORT") or "8000"
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Failure(f"PORT={text!r} is not a port", hint="Use a number from 1 to 65535.")
    return data_dir, os.environ.get("HOST") or "127.0.0.1", int(text)


@contextlib.contextmanager
def _only_copy(data_dir: Path) -> Iterator[None]:
    """Hold DATA_DIR for this process alone; the lock is gone with it, however it ends."""
    with (data_dir / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure(
                f"Another copy of the portal already runs on {data_dir}",
                hint="Stop it first, or give this one a DATA_DIR and PORT of its own.",
            ) from error
        yield


def _refuse_taken_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Failure(
                f"Port {port} on {host} can't be used: {error.strerror or error}",
                hint=f"Another program may be using it. Choose another: PORT={port % 65535 + 1} scripts/up",
            ) from error


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _kept_secrets(path: Path) -> dict[str, str]:
    """Made once for a DATA_DIR, never changed: sessions, keys and sealed fields depend on them."""
    if not path.exists():
        embedded.write_private(path, json.dumps({name: secrets.token_urlsafe(48) for name in SECRETS}, indent=1))
    return dict(json.loads(path.read_text()))


def _instance(path: Path) -> str:
    if not path.exists():
        embedded.write_private(path, f"{uuid.uuid4()}\n")
    return path.read_text().strip()


def _commands(host: str, port: int, data_dir: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The portal's own programs, as `python -m` words."""
    schedule, instance = data_dir / "run" / "beat-schedule", env["INSTANCE_ID"]
    web_processes = int(env["WEB_PROCESSES"])
    return {
        "web": f"uvicorn portal.asgi:application --host {host} --port {port} --loop uvloop --http httptools"
        " --lifespan on --no-access-log --no-server-header --timeout-keep-alive 30"
        f" --timeout-graceful-shutdown {DRAIN_S}" + (f" --workers {web_processes}" if web_processes > 1 else ""),
        "worker": "celery -A portal worker --pool threads --concurrency 8 --loglevel INFO"
        f" --without-gossip --without-mingle --hostname worker@{instance}",
        "beat": f"celery -A portal beat --loglevel INFO --pidfile= --schedule {shlex.quote(str(schedule))}",
    }


def say(line: str) -> None:
    """Print it at once. A terminal that has gone away is no reason to stop, or to leave something running."""
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
