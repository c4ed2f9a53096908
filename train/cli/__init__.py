"""The command line: parser, help texts, presets, usage errors, and the tools verify-resume and which-samples.

May import `train.config`, `train.runs` and `train.process`.
"""
