"""A backend for tests: the real one, with a small engine in the place of the big one. Real processes, real sockets."""

import sys
from dataclasses import replace
from pathlib import Path

from deployments.backends.local import LocalBackend
from deployments.launch import LaunchSpec
from tests.deployments.processes import SMALL_ENGINE


class SmallBackend(LocalBackend):
    """What the file `behaviour` in its root says is added to each small engine's command line; what `options` an
    engine was asked for is there too, so that a version can be told from another by how it behaves."""

    def ensure(self, spec: LaunchSpec) -> None:
        behaviour = Path(self._root, "behaviour")
        extra = behaviour.read_text().split() if behaviour.exists() else []
        asked = spec.argv[spec.argv.index("--context") :]
        argv = (sys.executable, "-S", "-E", str(SMALL_ENGINE), "--tag={tag}", "--port", "{port}", "--key-file",
                "{key_file}", *extra, "--asked", " ".join(asked))  # fmt: skip
        super().ensure(replace(spec, argv=argv))
