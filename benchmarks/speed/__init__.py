"""The speed and the shuffle of the data path, measured beside other libraries.

May import the three packages.
"""
