"""One module a part: its function `measure` adds rows, each measurement on its own.

May import benchmarks.gpu's other modules and the three packages.
"""
