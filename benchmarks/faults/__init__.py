"""Fault injection: kills a small training at random moments until it finishes, then checks that nothing was lost.

May import the three packages.
"""
