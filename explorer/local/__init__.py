"""Facet on one machine: embedded Postgres and Valkey, and the supervisor of its processes.

`python -m explorer.local` is what `make demo` runs. Nothing here imports torch; only `addresses` is imported by the
settings, and it imports nothing else of this package.
"""
