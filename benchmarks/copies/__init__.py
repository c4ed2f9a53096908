"""Copies: how many are found among real recordings, how many others are taken for copies, and what that costs.

May import `shards`.
"""
