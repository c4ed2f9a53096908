"""Files of runs, models and data sets: written whole or not at all, and never through a link.

Imports nothing but the standard library, and little of it: the decision to requeue uses this in the last seconds of
a job.

A folder may come from a stranger. So everything is written relative to an open folder, under a name that cannot be
guessed, and put in place by a rename. ``inside`` is the outermost folder of a call, which may be reached through
links; a link, pipe, device or folder below it, where a file or a real folder has to be, raises UnsafePathError.
Without ``inside`` that is the folder that holds the file.
"""

from shards.files.json_files import (
    MIB,
    JSONError,
    canonical_json,
    cleaned,
    is_flag,
    is_moment,
    is_number,
    is_text,
    is_whole,
    parse_json,
    read_json,
    read_object,
)
from shards.files.lines import append_line, parse_lines, read_lines
from shards.files.paths import (
    UnsafePathError,
    check_folder,
    check_place,
    made_folder,
    make_folder,
    open_folder,
    open_regular,
    read_file,
    read_start,
    sha256_of,
)
from shards.files.reasons import nothing_to_read, why_unreadable, why_unwritable
from shards.files.sealing import is_sealed, own_checksum, sealed
from shards.files.writing import (
    create_file,
    is_leftover,
    remove_file,
    remove_leftovers,
    sync,
    write_atomically,
    write_folder,
    write_into_folder,
)

__all__ = [
    "MIB",
    "JSONError",
    "UnsafePathError",
    "append_line",
    "canonical_json",
    "check_folder",
    "check_place",
    "cleaned",
    "create_file",
    "is_flag",
    "is_leftover",
    "is_moment",
    "is_number",
    "is_sealed",
    "is_text",
    "is_whole",
    "made_folder",
    "make_folder",
    "nothing_to_read",
    "open_folder",
    "open_regular",
    "own_checksum",
    "parse_json",
    "parse_lines",
    "read_file",
    "read_json",
    "read_lines",
    "read_object",
    "read_start",
    "remove_file",
    "remove_leftovers",
    "sealed",
    "sha256_of",
    "sync",
    "why_unreadable",
    "why_unwritable",
    "write_atomically",
    "write_folder",
    "write_into_folder",
]
