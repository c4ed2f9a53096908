"""A look at a data folder: a table for people, a summary for plots."""

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from shards.building import report
from shards.manifest import Manifest
from shards.reading.manifests import load_manifest


def inspect(data_dir: str | Path, json: bool = False) -> None:
    """Show what a data folder holds.

    Args:
        data_dir: Data folder made by build, or its URL (s3://, gs://, https://).
        json: Print a summary to plot instead of tables.
    """
    manifest, _ = load_manifest(data_dir)
    if json:
        print(_dump(summary(manifest)))
        return
    console = Console(soft_wrap=True)
    console.print(report.splits_table(manifest))
    for text in report.remarks(manifest):
        console.print(text)
    console.print(f"fingerprint {manifest.fingerprint}")


def _dump(content: dict) -> str:  # the flag hides the module's name in ``inspect``
    return json.dumps(content, indent=1)


def summary(manifest: Manifest) -> dict:
    """Levels per split, a histogram of durations in seconds, and why files were skipped."""
    kept = [source for source in manifest.sources if source.split is not None]
    durations = np.array([source.duration_s for source in kept])
    longest = max(durations.max(initial=0), 1)
    edges = np.array([0, *np.geomspace(0.1, longest * 1.001, 24)])
    counts, _ = np.histogram(durations, edges)
    return {
        "fingerprint": manifest.fingerprint,
        "rate": manifest.rate,
        "samples": manifest.samples,
        "hop": manifest.hop,
        "channels": manifest.channels,
        "splits": {
            name: {
                "recordings": sum(source.split == name for source in kept),
                "hours": level.hours,
                "chunks": level.chunks,
                "silent_chunks": level.silent_chunks,
                "left_out": level.left_out,
                "shards": len(manifest.splits[name]),
                "rms_dbfs": round(report.decibel(level.rms), 2),
                "peak_dbfs": round(report.decibel(level.peak), 2),
            }
            for name, level in manifest.levels.items()
        },
        "durations_s": {"edges": edges.round(4).tolist(), "recordings": counts.tolist()},
        "gain_db": [source.gain_db for source in kept],
        "skipped": report.reasons(manifest),
    }
