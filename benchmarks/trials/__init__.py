"""Trials: one model each, trained and measured by the real commands on recordings of Debian packages.

May import the three packages; `quality` and `league` import it.
"""
