"""Kills a training at random moments until it is done, and looks whether anything was lost."""
