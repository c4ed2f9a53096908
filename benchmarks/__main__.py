"""Measurements that the documents quote: `python -m benchmarks speed | quality | faults`, each with its own --help."""

import sys
from importlib import import_module

KINDS = {
    "speed": "the data path and checkpoints, beside other libraries",
    "quality": "models, baselines and seeds trained side by side: which claims about quality hold",
    "faults": "a tiny training run that is killed again and again: is anything lost?",
}


def main(words: list[str]) -> int:
    """Runs one kind of measurement with the words after its name; returns its exit code."""
    listed = "\n".join(f"  {kind:8}  {about}" for kind, about in KINDS.items())
    usage = f"usage: python -m benchmarks {{{','.join(KINDS)}}} [--help] ...\n\n{listed}"
    if not words or words[0] in ("-h", "--help"):
        print(usage, file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] not in KINDS:
        print(f"{usage}\n\nerror: '{words[0]}' is not one of: {', '.join(KINDS)}", file=sys.stderr)
        return 2
    return import_module(f"benchmarks.{words[0]}.command").main(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
