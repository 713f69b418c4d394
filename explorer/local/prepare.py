"""Bring the database and the static files up to date, in one process: `python -m explorer.local.prepare [--demo]`."""

import hashlib
import importlib.metadata as metadata
import os
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError

from inference.errors import FacetError

# `sysexits.h` calls it EX_TEMPFAIL: the same call may succeed in a moment.
TRY_AGAIN = 75
STATIC_PACKAGES = ("django", "django-htmx", "plotly", "whitenoise")
# What the plotly wheel carries beside the one script that pages load.
NOT_SERVED = ["*.csv.gz", "*.json", "widgetbundle.js"]


def main() -> int:
    """Migrate, collect static files where they changed and, for the demonstration, register what it ships."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "explorer.settings")
    django.setup()
    try:
        call_command("migrate", verbosity=0, interactive=False)
        collect_static()
        if "--demo" in sys.argv[1:]:
            call_command("demo_setup")
    except FacetError as error:
        print(f"{error.cause}\n  Remedy: {error.remedy}", file=sys.stderr)
        return 1
    except OperationalError as error:
        print(f"Postgres went away: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return TRY_AGAIN
    return 0


def collect_static() -> None:
    """Copy, hash and compress the static files, unless the copies are of the very files that are there now."""
    stamp = Path(settings.STATIC_ROOT) / ".stamp"
    wanted = static_digest()
    if settings.FACET_STATIC != "collected" or (stamp.exists() and stamp.read_text() == wanted):
        return
    call_command("collectstatic", verbosity=0, interactive=False, clear=True, ignore_patterns=NOT_SERVED)
    stamp.write_text(wanted)


def static_digest() -> str:
    """Return a digest of what the static files are made from."""
    own = sorted(path for path in (settings.BASE_DIR / "static").rglob("*") if path.is_file())
    facts = [f"{path}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in own]
    facts += [f"{name}=={metadata.version(name)}" for name in STATIC_PACKAGES]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
