"""Use a trained model: reconstruct, encode and decode recordings, go between two, draw from the prior, export."""

import sys

from jsonargparse import auto_cli

from audiovae.commands import COMMANDS
from audiovae.errors import ModelError


def main() -> int:
    """Runs the command line; returns the exit code."""
    try:
        auto_cli(
            COMMANDS,
            prog="python -m audiovae",
            description=__doc__,
        )
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
