"""Every setting of Facet. What a deployment may change comes from the environment: docs/configuration.md has the table.

Without DATABASE_URL and REDIS_URL the addresses are those of the servers that `make demo` or `make up` started last.
"""

import importlib.util
import secrets
from pathlib import Path

import environ

from explorer import logs
from explorer.local import addresses

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
env.read_env(BASE_DIR / ".env")

# What this machine keeps: databases, secrets, logs, unfinished builds.
FACET_LOCAL = Path(env.str("FACET_LOCAL", default=str(BASE_DIR / ".local"))).resolve()


def _secret_key() -> str:
    """Return the key of this machine, made once. Processes that start together must not each invent one."""
    path = FACET_LOCAL / "secret_key"
    try:
        return path.read_text()
    except FileNotFoundError:
        FACET_LOCAL.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"secret_key.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text()


def _place(said: str) -> str:
    """Return a folder's whole path, or a URL as it is."""
    return said if "://" in said else str(Path(said).resolve())


# --- Web -------------------------------------------------------------------------------------------------------------
DEBUG = env.bool("FACET_DEBUG", default=False)
SECRET_KEY = env.str("FACET_SECRET_KEY", default="") or _secret_key()
ALLOWED_HOSTS = env.list("FACET_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", ".localhost"])
CSRF_TRUSTED_ORIGINS = env.list("FACET_TRUSTED_ORIGINS", default=[])
# Behind a proxy that terminates TLS: cookies only over https, and the proxy's word on the scheme is believed.
FACET_HTTPS = env.bool("FACET_HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = FACET_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if FACET_HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"

ROOT_URLCONF = "explorer.urls"
ASGI_APPLICATION = "explorer.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "csp",
    "django_htmx",
    "ninja",  # the assets of the API's documentation, which would come from another host otherwise
    "features",
    "explorer",
]
MIDDLEWARE = [
    "explorer.answers.ServerTimingMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # A feature's page is a quarter of its size; streams of events say themselves that they are not to be compressed.
    "explorer.answers.CompressMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "explorer.errors.ErrorMiddleware",
]
CSRF_FAILURE_VIEW = "explorer.errors.csrf_failure"
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
            ]
        },
    }
]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

LANGUAGE_CODE = "en"
# Pages are in one language: to ask for every number which one takes a tenth of a page's time.
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "home"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]

# --- Static files ----------------------------------------------------------------------------------------------------
# `finders` serves files from where they lie; `collected` serves hashed, compressed copies made by collectstatic.
FACET_STATIC = env.str("FACET_STATIC", default="finders")
STATIC_URL = "/static/"
STATIC_ROOT = FACET_LOCAL / "static"
STATICFILES_DIRS = [
    BASE_DIR / "static",
    # The plotly wheel carries plotly.min.js; importing the package to ask for its folder costs half a second.
    ("plotly", Path(str(importlib.util.find_spec("plotly").origin)).parent / "package_data"),  # type: ignore[union-attr]
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if FACET_STATIC == "collected"
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = FACET_STATIC != "collected"
WHITENOISE_AUTOREFRESH = DEBUG

# --- Postgres --------------------------------------------------------------------------------------------------------
DATABASES = {
    "default": addresses.database(env.str("DATABASE_URL", default="") or addresses.recorded(FACET_LOCAL).database_url)
}
# Every statement here is short: workers and compiled expressions cost it more than they save.
_SESSION = "-c jit=off -c max_parallel_workers_per_gather=0 -c work_mem=16MB"
DATABASES["default"]["OPTIONS"] |= {
    "connect_timeout": 3,
    "options": f"{DATABASES['default']['OPTIONS'].get('options', '')} {_SESSION}".strip(),
    # A page waits at most `timeout` seconds for a connection, then says that Postgres is away. The short
    # `reconnect_timeout` makes the pool try afresh at the next page, not at the end of a long back-off.
    "pool": {
        "min_size": 1,
        "max_size": env.int("FACET_DB_POOL", default=8),
        "timeout": 5,
        "reconnect_timeout": 5,
    },
}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# --- Valkey ----------------------------------------------------------------------------------------------------------
REDIS_URL = env.str("REDIS_URL", default="") or addresses.recorded(FACET_LOCAL).redis_url
# For every client: give up on a silent server in seconds, and check a connection that has been idle.
REDIS_OPTIONS = {"socket_connect_timeout": 2, "socket_timeout": 30, "health_check_interval": 15}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# --- Celery ----------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = addresses.broker(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 2,
    "socket_timeout": 30,
    "health_check_interval": 15,
    # A message that was taken and not acknowledged comes back after this many seconds: longer than any live request,
    # shorter than a day. Runs do not wait for it: a batch worker takes up stale runs when it starts.
    "visibility_timeout": 6 * 3600,
}
# A page that cannot reach Valkey says so within about three seconds.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 2, "interval_start": 0.2, "interval_step": 0.3, "interval_max": 0.5}
CELERY_TASK_DEFAULT_QUEUE = "engine"
CELERY_TASK_ROUTES = {"inference.tasks.run": {"queue": "batch"}, "inference.tasks.*": {"queue": "engine"}}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_POOL = "solo"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# --- Engine ----------------------------------------------------------------------------------------------------------
# Empty: CUDA where there is a device, else the CPU.
FACET_DEVICE = env.str("FACET_DEVICE", default="")
# float32, bfloat16 or float16: the precision of models in the engine.
FACET_DTYPE = env.str("FACET_DTYPE", default="float32")
# Models and dictionaries that a worker keeps loaded, in bytes.
FACET_ENGINE_BYTES = env.int("FACET_ENGINE_BYTES", default=8 * 1024**3)
# Live requests that may wait for the engine; one more is told that it is busy.
FACET_LIVE_QUEUE = env.int("FACET_LIVE_QUEUE", default=32)
# Threads of torch in a worker; 0 leaves torch's own choice.
FACET_THREADS = env.int("FACET_THREADS", default=0)
# Where a build keeps contexts and finished shards: a folder or an fsspec URL, the same for all workers that share it.
FACET_BUILDS = _place(env.str("FACET_BUILDS", default="") or str(FACET_LOCAL / "builds"))
# Where datasets of a hub and Parquet are copied to as text; workers need it under the same path.
FACET_CORPORA = Path(env.str("FACET_CORPORA", default="") or FACET_LOCAL / "corpora").resolve()
# Bytes that each worker may take for a build.
FACET_BUILD_MEMORY = env.int("FACET_BUILD_MEMORY", default=4 * 1024**3)
# Folders from which every account may add models, dictionaries and text; staff may add from anywhere, and from a hub.
FACET_ADD_FOLDERS = [Path(folder).expanduser().resolve() for folder in env.list("FACET_ADD_FOLDERS", default=[])]
# Where archives of exports wait to be downloaded; what lies there may be deleted.
FACET_EXPORTS = Path(env.str("FACET_EXPORTS", default="") or FACET_LOCAL / "exports").resolve()

# --- Logging ---------------------------------------------------------------------------------------------------------
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logs.configure(
    level=env.str("FACET_LOG_LEVEL", default="INFO"), as_json=env.str("FACET_LOG_FORMAT", default="console") == "json"
)
