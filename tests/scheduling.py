"""Which tests run one after another on one worker: all that stand in one group share one running portal. There are two:
"faults" for those that break things, "portal" for the rest.

pytest-xdist 3.8 reads its group mark from test ids in a way that pytest 9.2 no longer allows, and silently ignores it;
so the group is found here, by the file that a test stands in.
"""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r'xdist_group\("(\w+)"\)')


class ByFile(LoadGroupScheduling):
    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", maxsplit=1)[0]
        return _group(path) or nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@functools.cache
def _group(path: str) -> str:
    found = MARK.search((ROOT / path).read_text())
    return found[1] if found else ""
