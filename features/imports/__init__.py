"""Imports of dashboards that others made: files become shards, shards become rows, and rows are swapped in at once.

finding -> lines -> activations, feature_lines, explanation_lines -> shards
shards -> contexts, features_on_disk, merging -> job
"""
