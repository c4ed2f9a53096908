"""The parts, the most telling first, and the time that each may take."""

from dataclasses import dataclass

from benchmarks.gpu.job import FAMILIES


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: Its name in results and on the command line.
        module: The file in `parts/`.
        title: What it measures, for people.
        seconds: The most time that it may take on a GPU; 0 for a share of what is left.
        argument: The family, for parts that measure one.
        waits: Whether it leaves time to later parts that take shares.
    """

    name: str
    module: str
    title: str
    seconds: float
    argument: str = ""
    waits: bool = False


# A part that gets a share of what is left needs this much.
LEAST_SHARE_S = 30.0

PARTS = (
    Part("peaks", "peaks", "peaks of the machine", 60),
    *(Part(f"preset-{name}", "presets", f"the default preset of `{name}`", 60, name) for name in FAMILIES),
    Part("loop", "loop", "the training loop against bare steps", 60),
    Part("reader", "reader", "from the page cache to the device", 45),
    Part("resume", "resume", "save and resume", 60),
    Part("processes", "processes", "several processes", 75),
    Part("profile", "profile", "one step in detail", 60),
    Part("adversarial", "adversarial", "a step of the adversarial phase against one before it", 60),
    *(Part(f"compile-{name}", "compiled", f"`{name}` compiled", 75, name, waits=True) for name in FAMILIES),
    *(Part(f"train-{name}", "training", f"a short training of `{name}`", 0, name) for name in FAMILIES),
)

# For these one family shows that the code runs.
ONE_FAMILY_IF_QUICK = ("compiled", "training")


def parts_of(quick: bool) -> list[Part]:
    """The parts that run when none is named."""
    return [
        part for part in PARTS if not (quick and part.module in ONE_FAMILY_IF_QUICK and part.argument != FAMILIES[0])
    ]


def seconds_for(part: Part, later: list[Part], left: float) -> float:
    """The time that a part gets of what is left; 0 if that is too little to start.

    Args:
        part: The part that begins now.
        later: Parts that are still to come.
        left: Seconds until the whole command has to end.
    """
    if part.seconds:
        kept = LEAST_SHARE_S * sum(not other.seconds for other in later) if part.waits else 0.0
        return min(part.seconds, left - kept) if left - kept > min(15.0, part.seconds) else 0.0
    shares = 1 + sum(not other.seconds for other in later)
    share = (left - sum(other.seconds for other in later)) / shares
    return share if share >= LEAST_SHARE_S else 0.0
