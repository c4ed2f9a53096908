"""Pure parts of the training state: objective, schedules, gradient guard, snapshot.

Imports nothing else of the project.
"""
