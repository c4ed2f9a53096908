"""Reading: shards -> batches, in an order that is arithmetic.

May import the shared modules of `shards`; imports nothing of `shards.building`.
"""
