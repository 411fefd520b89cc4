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
        Status.ASLEEP: {Status.WAKING, Status.UPDATING, Status.STOPPING},
        Status.WAKING: {Status.READY, Status.ASLEEP, Status.STOPPING, Status.FAILED},
        Status.UPDATING: {Status.READY, Status.STARTING, Status.ASLEEP, Status.STOPPING, Status.FAILED},
        Status.STOPPING: {Status.STOPPED},
        Status.FAILED: {Status.PENDING, Status.STOPPING},
        Status.STOPPED: set(),
    }
)
# Reconcile has nothing to do in these until somebody wishes something else.
SETTLED = frozenset({Status.STOPPED})
# Nothing runs in these, and nothing is to be done before somebody asks for it.
QUIET = frozenset({Status.ASLEEP, Status.FAILED, Status.STOPPED})
IN_MOTION = frozenset(
    {Status.PENDING, Status.DOWNLOADING, Status.STARTING, Status.WAKING, Status.UPDATING, Status.STOPPING}
)
# Replicas that are ready take calls in these.
SERVING = frozenset({Status.READY, Status.UPDATING})

# What is in one of these costs something, or is about to.
SPENDING = frozenset({Status.PENDING, Status.STARTING, Status.WAKING, Status.READY, Status.UPDATING})

# How long a state may last that something has to come out of, in seconds. Those that start an engine have the
# deployment's own start deadline; who waits for capacity waits for QUEUE_DEADLINE_S.
DEADLINES_S = MappingProxyType({Status.PENDING: 120, Status.DOWNLOADING: 6 * 3600, Status.STOPPING: 60})
STARTS = frozenset({Status.STARTING, Status.WAKING, Status.UPDATING})
QUEUE_DEADLINE_S = 15 * 60
# How long a validation may ask; and how long an update waits for it, which is a little more.
VALIDATION_S = 15 * 60
VALIDATION_DEADLINE_S = VALIDATION_S + 60


class Reason(models.TextChoices):
    """Why a deployment is in its state. The text shown to people is in the label."""

    NONE = "", ""
    ASKED = "asked", "Asked for"
    ENGINE_LOADING = "engine_loading", "The engine is loading the weights"
    ENGINE_HEALTHY = "engine_healthy", "The engine answers its health check"
    ENGINE_EXITED = "engine_exited", "The engine exited; it is started again"
    ENGINE_HUNG = "engine_hung", "The engine stopped answering; it is started again"
    PORTAL_RESTARTED = "portal_restarted", "The portal was restarted; its engine is started again"
    NO_CAPACITY = "no_capacity", "No capacity: all replicas that this hardware has room for are in use"
    CRASH_LOOP = "crash_loop", "The engine exited again and again"
    START_TIMEOUT = "start_timeout", "The engine did not become healthy before its deadline"
    OUT_OF_MEMORY = "out_of_memory", "The engine ran out of memory"
    TOO_LARGE = "too_large", "The weights are larger than the hardware's memory"
    DISK_FULL = "disk_full", "The disk is full"
    BAD_OPTION = "bad_option", "The engine refused an option"
    BAD_WEIGHTS = "bad_weights", "The weights are missing, differ from their sha256 or can't be loaded"
    WEIGHTS_COMING = "weights_coming", "Its weights are on their way to the portal"
    HUB_REFUSED = "hub_refused", "The Hub refused its weights"
    HUB_AWAY = "hub_away", "Its weights did not come: where they are kept could not be reached"
    BACKEND_REFUSED = "backend_refused", "The backend could not start the engine"
    NO_WORKER = "no_worker", "No worker took it up in time"
    IDLE = "idle", "No call for the idle window"
    CALLED = "called", "A call woke it"
    BUDGET_SPENT = "budget_spent", "A hard budget is spent"
    BUDGET_AGAIN = "budget_again", "Its budget has room again"
    UPDATE_ASKED = "update_asked", "An update was asked for; its engine starts beside the old one"
    VALIDATING = "validating", "The new version answers its prompt set; the one before takes the calls meanwhile"
    VALIDATION_FAILED = "validation_failed", "The new version did not pass its prompt set; the version before goes on"
    UPDATED = "updated", "The new version answered a real prompt and takes the calls"
    UPDATE_FAILED = "update_failed", "The update failed; the version before goes on"
    UPDATE_TAKEN_BACK = "update_taken_back", "The update was taken back before it took any call"
    STOP_ASKED = "stop_asked", "Stop was asked for"
    STOP_TIMEOUT = "stop_timeout", "The engine has not ended in time; ending it is tried on"
    GONE = "gone", "The backend no longer lists the replica"


class Step(models.TextChoices):
    """What people can do about a failure; the label is the button's text."""

    RETRY = "retry", "Start again"
    SETTINGS = "settings", "Change its settings"
    CONTEXT = "context", "Halve the context and start again"
    DEADLINE = "deadline", "Double the start deadline and start again"
    HARDWARE = "hardware", "Choose larger hardware"
    WEIGHTS = "weights", "Free some weights"
    LOG = "log", "Read the log"


# What to do next about a failure, and the button for it.
NEXT_STEPS = MappingProxyType(
    {
        Reason.NO_CAPACITY: (Step.RETRY, "Stop something on this hardware, or ask the operator for more capacity."),
        Reason.CRASH_LOOP: (Step.RETRY, "The evidence below is the engine's own; starting again gives it all tries."),
        Reason.START_TIMEOUT: (Step.DEADLINE, "Give it a later start deadline, or less to load."),
        Reason.OUT_OF_MEMORY: (Step.CONTEXT, "Ask for less context or fewer calls at once, or take larger hardware."),
        Reason.TOO_LARGE: (Step.HARDWARE, "Choose smaller weights, or deploy on hardware with more memory."),
        Reason.DISK_FULL: (Step.WEIGHTS, "Give up weights that nobody needs, or ask the operator to make room."),
        Reason.BAD_OPTION: (Step.SETTINGS, "Change the option that the evidence names."),
        Reason.BAD_WEIGHTS: (Step.SETTINGS, "Choose another revision of the weights, or put the file right."),
        Reason.HUB_REFUSED: (Step.RETRY, "Try the import again on the weights' page once what it says is put right."),
        Reason.HUB_AWAY: (Step.RETRY, "Try the import again on the weights' page, then start it again."),
        Reason.BACKEND_REFUSED: (Step.RETRY, "The evidence is the backend's own; start again once that is put right."),
        Reason.BUDGET_SPENT: (Step.RETRY, "Raise the budget, or wait until it begins anew; then start again."),
        Reason.NO_WORKER: (Step.RETRY, "See that a worker runs; then start again."),
    }
)  # fmt: skip
# What else may help: further buttons beside that one, after it. All that can fail has its log.
FURTHER_STEPS = MappingProxyType(
    {
        Reason.NO_CAPACITY: (Step.HARDWARE,),
        Reason.CRASH_LOOP: (Step.SETTINGS, Step.LOG),
        Reason.START_TIMEOUT: (Step.SETTINGS, Step.LOG),
        Reason.OUT_OF_MEMORY: (Step.HARDWARE, Step.SETTINGS, Step.LOG),
        Reason.TOO_LARGE: (Step.SETTINGS,),
        Reason.DISK_FULL: (Step.RETRY, Step.LOG),
        Reason.BAD_OPTION: (Step.LOG, Step.RETRY),
        Reason.BAD_WEIGHTS: (Step.LOG, Step.RETRY),
        Reason.BACKEND_REFUSED: (Step.LOG,),
    }
)
