"""What an engine asks a backend to run. Pure data: engines make it, backends run it, neither knows the other."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """`argv` may hold {port}, {key_file} and {tag}: the backend fills them in. `key` is the engine's own API key; it
    goes into the key file, never on a command line. `env` holds the team's secrets too: it is given to the process and
    written nowhere. `health_path` answers 200 once the engine can serve."""

    name: str
    argv: tuple[str, ...]
    key: str = field(repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    health_path: str = "/health"
