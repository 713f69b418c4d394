"""Dashboards: one pass over a corpus for every feature of every dictionary of a model.

Import `run_pass` from `inference.dashboards.passes` (needs torch) and values from `inference.dashboards.results` (does not).
"""
