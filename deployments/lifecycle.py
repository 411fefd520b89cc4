"""A deployment's life as data. Who may follow whom is MOVES; why is a reason, never a state of its own."""

from types import MappingProxyType

from django.db import models


class Status(models.TextChoices):
    PENDING = "pending"
    DOWNLOADING = "downloading"
    STARTING = "starting"
    READY = "ready"
    ASLEEP = "asleep"
    WAKING = "waking"
    UPDATING = "updating"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


MOVES = MappingProxyType(
    {
        Status.PENDING: {Status.DOWNLOADING, Status.STARTING, Status.STOPPING, Status.FAILED},
        Status.DOWNLOADING: {Status.STARTING, Status.STOPPING, Status.FAILED},
        Status.STARTING: {Status.READY, Status.STOPPING, Status.FAILED},
        Status.READY: {Status.STARTING, Status.ASLEEP, Status.UPDATING, Status.STOPPING, Status.FAILED},
        Status.ASLEEP: {Status.WAKING, Status.STOPPING},
        Status.WAKING: {Status.READY, Status.STOPPING, Status.FAILED},
        Status.UPDATING: {Status.READY, Status.STOPPING, Status.FAILED},
        Status.STOPPING: {Status.STOPPED},
        Status.FAILED: {Status.PENDING, Status.STOPPING},
        Status.STOPPED: set(),
    }
)
# Reconcile has nothing to do in these until somebody wishes something else.
SETTLED = frozenset({Status.STOPPED})
IN_MOTION = frozenset(
    {Status.PENDING, Status.DOWNLOADING, Status.STARTING, Status.WAKING, Status.UPDATING, Status.STOPPING}
)


class Reason(models.TextChoices):
    """Why a deployment is in its state. The text shown to people is in the label."""

    NONE = "", ""
    ASKED = "asked", "Asked for"
    ENGINE_LOADING = "engine_loading", "The engine is loading the weights"
    ENGINE_HEALTHY = "engine_healthy", "The engine answers its health check"
    ENGINE_EXITED = "engine_exited", "The engine exited; it is started again"
    ENGINE_HUNG = "engine_hung", "The engine stopped answering; it is started again"
    PORTAL_RESTARTED = "portal_restarted", "The portal was restarted; its engine is started again"
    CRASH_LOOP = "crash_loop", "The engine exited again and again"
    START_TIMEOUT = "start_timeout", "The engine did not become healthy before its deadline"
    BAD_WEIGHTS = "bad_weights", "The weights are missing or differ from their sha256"
    BACKEND_REFUSED = "backend_refused", "The backend could not start the engine"
    IDLE = "idle", "No call for the idle window"
    CALLED = "called", "A call woke it"
    STOP_ASKED = "stop_asked", "Stop was asked for"
    GONE = "gone", "The backend no longer lists the replica"
