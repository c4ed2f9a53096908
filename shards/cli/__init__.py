"""Help texts and error messages of command lines, for all packages here.

May import the standard library, jsonargparse and `shards.text`.
"""
