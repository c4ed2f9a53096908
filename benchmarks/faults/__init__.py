"""Fault injection: kills a tiny training run at random moments until it finishes, then checks that nothing is lost.

May import the three packages.
"""
