"""The current process and its terminal: stop requests, watchdog, display, output streams.

Imports nothing else of the project.
"""
