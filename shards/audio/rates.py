"""Sample rates that a file may name: one of 1 Hz would turn a small file into days of samples."""

LOWEST, HIGHEST = 1_000, 1_000_000  # Hz
USUAL_LOWEST, USUAL_HIGHEST = 2_000, 768_000  # Hz; rates beyond them are read with a note
