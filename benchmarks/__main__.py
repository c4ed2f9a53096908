"""Runs one of the benchmarks that docs/benchmarks.md quotes; each has its own --help."""

import sys
from importlib import import_module

KINDS = {
    "speed": "measure data loading and checkpoints and compare them with other libraries",
    "quality": "train models, baselines and seeds, and check the claims about quality",
    "league": "train the trunks of other codecs as long as ours, and put classical codecs beside them",
    "ablations": "train vae_tiny with one change of its losses or layers at a time",
    "presets": "train default presets beside the tiny ones, after equal chunks",
    "stereo": "measure stereo models beside mono models on both sides",
    "copies": "make copies of recordings, and count those that `shards build` would find",
    "gpu": "measure in minutes what only a GPU can answer; resumes where it was cut",
    "faults": "inject faults into a small training and check that nothing is lost",
    "scale": "reading, start-up and checkpoints of up to 1,024 processes, on paper and in simulation",
}


def main(words: list[str]) -> int:
    """Runs one benchmark with the arguments after its name; returns its exit code."""
    listed = "\n".join(f"  {kind:9}  {about}" for kind, about in KINDS.items())
    usage = f"usage: python -m benchmarks {{{','.join(KINDS)}}} [--help] ...\n\n{__doc__}\n\n{listed}"
    if not words or words[0] in ("-h", "--help"):
        print(usage, file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] not in KINDS:
        print(f"{usage}\n\nerror: '{words[0]}' is not one of: {', '.join(KINDS)}", file=sys.stderr)
        return 2
    return import_module(f"benchmarks.{words[0]}.command").main(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
