"""Copies: acoustic fingerprints of recordings, and which recordings hold the same sound.

May import the shared modules of `shards`; imports nothing of `shards.building` and `shards.reading`.
"""
