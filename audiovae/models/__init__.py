"""The three model families behind one interface, `Autoencoder`.

May import `audiovae.layers` and `audiovae.quantizing`.
"""
