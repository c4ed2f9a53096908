"""What `python -m train evaluate` measures: chunks over all processes, tables, intervals, distances of sets."""
