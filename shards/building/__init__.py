"""Recordings -> shards."""
