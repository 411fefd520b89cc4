"""Which tests run one after another on one worker: all that stand in the group "portal" share one running portal.

pytest-xdist 3.8 reads its group mark from test ids in a way that pytest 9.2 no longer allows, and silently ignores it;
so the group is found here, by the file that a test stands in.
"""

import functools
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

ROOT = Path(__file__).resolve().parent.parent
MARK = 'xdist_group("portal")'


class ByFile(LoadGroupScheduling):
    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", maxsplit=1)[0]
        return "portal" if _needs_a_portal(path) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@functools.cache
def _needs_a_portal(path: str) -> bool:
    return MARK in (ROOT / path).read_text()
