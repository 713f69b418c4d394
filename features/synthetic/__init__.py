"""A deployment of any size, made up: to measure Facet where nobody has computed that many features.

Its rows go the way of a build's: the same arrays, services and partitions. Nothing in it was measured, which its
release, its models and every feature's page say.
"""
