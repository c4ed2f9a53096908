"""Intervals and paired differences, by resampling whole recordings.

Imports nothing else of `train`.
"""
