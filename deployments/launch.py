"""What an engine asks a backend to run. Pure data: engines make it, backends run it, neither knows the other."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """`argv` may hold {port}, {key_file} and {tag}: the backend fills them in. `key` is the engine's own API key; it
    goes into the key file, never on a command line. `health_path` answers 200 once the engine can serve."""

    name: str
    argv: tuple[str, ...]
    key: str = field(repr=False)
    env: tuple[tuple[str, str], ...] = ()
    health_path: str = "/health"
