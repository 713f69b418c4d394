"""Exports: what is stored of a dictionary as files that travel, and features and lists as pages that do.

rows reads; neuronpedia, parquet and pages write; job carries an export out that somebody asked for in the browser.
"""
