"""The command line: parser, presets, usage errors, and small tools.

May import `train.config`, `train.runs` and `train.process`.
"""
