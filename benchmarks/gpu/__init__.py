"""Everything that only a GPU can answer, in one command that fits into minutes and resumes where it was cut.

May import the three packages and benchmarks.speed.support.
"""
