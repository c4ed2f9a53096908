"""The subcommands that are no training: their flags, help and examples, one entry each in TOOLS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt

from train.config import RUNS

INSPECT, MAINTAIN, PREPARE = "inspect a run", "maintain a run", "prepare a prior"
DEVICE_HELP = "cpu, cuda, or auto."


@dataclass(frozen=True)
class Tool:
    """A subcommand.

    Attributes:
        group: The heading under which `python -m train` lists it.
        about: One sentence on what it does.
        usage: What follows its name.
        examples: Command lines without `python -m train`.
        add_arguments: Adds its arguments to its parser.
    """

    group: str
    about: str
    usage: str
    examples: tuple[str, ...]
    add_arguments: Callable[[ArgumentParser], None]


def _add_run_dir(parser: ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, help="The folder that was --run-dir in training.")


def _evaluate(parser: ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--data", type=str | None, help="Shards to measure on; by default those of the run.")
    parser.add_argument("--split", default="valid", help="The split to measure on.")
    parser.add_argument("--out", type=Path | None, help="The folder to write to; by default RUN_DIR/report.")
    parser.add_argument(
        "--checkpoint",
        type=str,  # not `str | None`, of which the parser reads `null` as no value
        help="The step of a checkpoint to measure, or `best`; by default the newest model. Its report is written to "
        "RUN_DIR/report-step-... unless --out names another folder.",
    )
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument(
        "--examples", type=PositiveInt, help="Number of best, median and worst examples each; by default 3."
    )
    parser.add_argument("--speech", action="store_true", help="Add PESQ and STOI; needs the extra `speech`.")
    parser.add_argument(
        "--perceptual", action="store_true", help="Add Zimtohrli and ViSQOL; needs the extra `perceptual`."
    )
    parser.add_argument(
        "--no_yardsticks", action="store_true", help="Leave out Opus and the best linear code on the same passages."
    )
    parser.add_argument(
        "--no_before", action="store_true", help="Leave out the model from before the adversarial phase."
    )
    of_priors = {
        "pieces": (PositiveInt, "Of a prior: number of recordings to generate; by default 8."),
        "seconds": (PositiveFloat, "Of a prior: length of each recording; by default 10."),
        "temperature": (NonNegativeFloat, "Of a prior: temperature of the recordings; by default 1."),
        "autoencoder": (Path, "Of a prior: a run or model folder of its autoencoder; by default the copy beside it."),
    }
    for name, (kind, text) in of_priors.items():
        parser.add_argument(f"--{name}", type=kind, help=text)


def _compare(parser: ArgumentParser) -> None:
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="run_dir", help="Folders of two or more runs.")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="The folder to write the page to.")
    parser.add_argument("--data", type=str | None, help="Shards for the audio examples; by default the first run's.")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--examples", type=PositiveInt, default=2, help="Number of audio examples of each kind.")


def _encode(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="The autoencoder: a run, a model folder or a checkpoint.")
    parser.add_argument("data", type=str, help="The folder of shards to encode, all splits of it.")
    parser.add_argument("out", type=Path, help="The folder to write the latents to, as a data set.")
    parser.add_argument(
        "--seconds", type=PositiveFloat, default=10.0, help="Length of a window of latents, rounded to whole frames."
    )
    parser.add_argument(
        "--labels",
        type=str | None,
        help="Give recordings labels, by which a prior can draw: `folder` for the name of a recording's first folder, "
        "or a CSV file with the columns path and label.",
    )
    parser.add_argument(
        "--device", default="auto", help=f"{DEVICE_HELP} A process uses one GPU, or one core: launch one for each."
    )


def _status(parser: ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def _which_samples(parser: ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--step", type=PositiveInt, required=True, help="The step as in metrics.jsonl, from 1.")
    parser.add_argument("--wav", type=Path | None, help="A folder to write the chunks to as WAV files.")
    parser.add_argument("--data", type=str | None, help="The run's shards, if they have moved.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")


def _sync(parser: ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--prepare", action="store_true", help="Only complete the offline parts; upload nothing.")


def _verify_resume(parser: ArgumentParser) -> None:
    parser.add_argument(
        "family", choices=[*RUNS], help="The family to train, followed by the flags of a training without --run-dir."
    )


TOOLS = {
    "evaluate": Tool(
        INSPECT,
        "Measure a run's model on held-out recordings and write a report; of a prior, what it generates.",
        "RUN_DIR [--data DIR] [--split SPLIT] [--out DIR] [--device DEVICE] [--examples N] [--speech] [--perceptual] "
        "[--no-yardsticks] [--no-before] [--pieces N] [--seconds S] [--temperature T] [--autoencoder MODEL]",
        (
            "evaluate runs/first",
            "evaluate runs/first --data other-shards/ --split valid --out other-report",
            "evaluate runs/prior --data shards/ --pieces 16 --seconds 30",
        ),
        _evaluate,
    ),
    "compare": Tool(
        INSPECT,
        "Compare evaluated runs on one page: measures, curves, and the same chunks as audio.",
        "RUN_DIR RUN_DIR... [--out DIR] [--data DIR] [--device DEVICE] [--examples N]",
        ("compare runs/first runs/second --out comparison",),
        _compare,
    ),
    "encode": Tool(
        PREPARE,
        "Encode the recordings of a data set with a trained autoencoder, as a data set of latents.",
        "RUN DATA OUT [--seconds S] [--labels folder|FILE.csv] [--device DEVICE]",
        (
            "encode runs/first shards/ latents/",
            "encode runs/first/model shards/ latents/ --seconds 20",
            "encode runs/first shards/ latents/ --labels folder",
        ),
        _encode,
    ),
    "status": Tool(
        INSPECT,
        "Show a run's state: attempts and why each ended, lost steps, goodput, checkpoints.",
        "RUN_DIR [--json]",
        ("status runs/first", "status runs/first --json"),
        _status,
    ),
    "which-samples": Tool(
        INSPECT,
        "List the chunks in the batch of a training step.",
        "RUN_DIR --step STEP [--wav DIR] [--data DIR] [--json]",
        ("which-samples runs/first --step 1200", "which-samples runs/first --step 1200 --wav chunks/"),
        _which_samples,
    ),
    "sync": Tool(
        MAINTAIN,
        "Upload the offline parts of a run to W&B as one run.",
        "RUN_DIR [--prepare]",
        ("sync runs/first", "sync runs/first --prepare"),
        _sync,
    ),
    "verify-resume": Tool(
        MAINTAIN,
        "Check resuming: train briefly with and without interruptions, on different process counts, and compare.",
        "FAMILY --data DIR [--config FILE.yaml] [--KEY VALUE ...]",
        ("verify-resume vae --data shards/ --config vae_tiny --optim.steps 20",),
        _verify_resume,
    ),
}
