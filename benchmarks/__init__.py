"""The benchmarks that docs/benchmarks.md quotes: speed, quality, fault injection.

May import the three packages; nothing imports it.
"""
