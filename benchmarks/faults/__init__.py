"""Fault injection: kills a small training or encoding at random moments until it finishes; was anything lost?

May import the three packages.
"""
