"""Draws docs/requeue.svg, the lives of one job: `python docs/requeue.py`."""

from pathlib import Path

import matplotlib.pyplot as plt

WAIT, START, TRAIN, SAVE, LOST = "#d8d8d8", "#f2c572", "#7fb4d8", "#4a7f5b", "#d98880"
# Lanes of the picture: what happens, from when to when (in hours of an example), and its colour.
LIVES = [
    ("life 1: time limit", [(0, 1, WAIT), (1, 1.5, START), (1.5, 8.6, TRAIN), (8.6, 9, SAVE)]),
    ("life 2: a process dies", [(9, 10, WAIT), (10, 10.5, START), (10.5, 13.5, TRAIN), (13.5, 14.3, LOST)]),
    ("life 3: preempted", [(14.3, 14.8, WAIT), (14.8, 15.3, START), (15.3, 18.6, TRAIN), (18.6, 19, SAVE)]),
    ("life 4: finished", [(19, 21, WAIT), (21, 21.5, START), (21.5, 26, TRAIN), (26, 26.4, SAVE)]),
]
NOTES = [
    (8.6, 0, "USR2 before the limit:\nSTOP, save, requeue"),
    (14.3, 1, "steps since the last save\nare made again"),
    (18.6, 2, "USR2 or TERM:\nSTOP, save, requeue"),
    (26.4, 3, "DONE: the job ends"),
]
LEGEND = [(WAIT, "in the queue"), (START, "start, preflight"), (TRAIN, "training"), (SAVE, "save"), (LOST, "lost")]


def draw(file: Path) -> None:
    """Writes the picture; the same bytes each time."""
    plt.rcParams |= {"svg.hashsalt": "requeue", "svg.fonttype": "none", "font.size": 10}
    figure, axes = plt.subplots(figsize=(10, 3.2))
    for row, (_, parts) in enumerate(LIVES):
        for begin, end, colour in parts:
            axes.barh(row, end - begin, left=begin, height=0.55, color=colour)
    for x, row, text in NOTES:
        axes.text(x + 0.5, row, text, va="center", ha="left", fontsize=9)
    for colour, text in LEGEND:
        axes.barh(0, 0, color=colour, label=text)
    axes.set_yticks(range(len(LIVES)), [name for name, _ in LIVES])
    axes.invert_yaxis()
    axes.set_xlim(0, 31)
    axes.set_xticks([])
    axes.set_xlabel("time")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.legend(ncols=len(LEGEND), loc="lower center", bbox_to_anchor=(0.45, 1.0), frameon=False)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(__file__).with_name("requeue.svg"))
