"""Audio files of any format, rate and number of channels as mono or stereo blocks at a wanted rate.

`shards` and `audiovae` decode by this module alone: a file is whole for both of them, or for none. There are two
decoders. libsndfile reads first; FFmpeg reads what libsndfile cannot, what it would read short, and what it did.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from shards.audio import flac, mpeg, ogg, riff
from shards.audio.belief import PADDING_S, Heard, first_is_believed, judged
from shards.audio.errors import DecodingError, reason
from shards.audio.ffmpeg import open_ffmpeg
from shards.audio.libsndfile import SndFile, open_sndfile
from shards.audio.mixing import MEAN, Channels, Mixer, parse_channels
from shards.audio.rates import HIGHEST, LOWEST, USUAL_HIGHEST, USUAL_LOWEST

RATE = "unreadable: its header names a rate of"
MORE_DATA = "it has more data than its header says"
# libsndfile's names of containers whose headers tell the length in samples.
EXACT = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"}
CHAINED = "several streams follow each other"
ORPHANS = "damaged: the beginning of one of its streams is missing"
MALFORMED = "malformed"  # libsndfile's word for a format that it knows


@dataclass(frozen=True)
class Facts:
    """What is known of a file.

    Attributes:
        rate: Hz, as recorded.
        channels: As recorded.
        seconds: The length that the file announces; None when it announces none.
        doubt: Why libsndfile would read it short; empty when it reads it whole.
        note: What is remarkable about it, such as a header that is wrong.
        exact: Whether `seconds` is exact to the sample; lossy codecs pad the end.
        ask_both: Whether FFmpeg may find more than libsndfile, which sees no problem.
    """

    rate: int
    channels: int
    seconds: float | None
    doubt: str = ""
    note: str = ""
    exact: bool = False
    ask_both: bool = False


class Output(Protocol):
    """Where a decoder puts the audio."""

    def add(self, audio: np.ndarray) -> None:
        """Takes float32 [n], of stereo [n, 2], which is valid during the call."""

    def restart(self) -> None:
        """Forgets everything: another decoder begins."""


class _Pass:
    """One pass of a decoder over a file, and how far it came."""

    def __init__(
        self,
        rate: int,
        output: Output,
        on_progress: Callable[[float], None],
        channels: tuple[int, ...] | None = None,
        outputs: int = 1,
    ) -> None:
        self._rate, self._output, self._on_progress, self._outputs = rate, output, on_progress, outputs
        self.channels = channels
        self.mixer, self.seconds = Mixer(rate, channels, outputs), 0.0

    def take(self, block: np.ndarray, rate: int, full_scale: float = 1) -> None:
        """Hands on a block, float32 [n, channels] at `rate` Hz."""
        for audio in self.mixer.add(block, rate, full_scale):
            self._output.add(audio)
        self.seconds += len(block) / rate
        self._on_progress(len(block) / rate)

    def end(self) -> None:
        """Hands on what the resampler holds."""
        for audio in self.mixer.end():
            self._output.add(audio)

    def again(self) -> None:
        """Throws away what came, for another decoder or for other channels."""
        self._output.restart()
        self._on_progress(-self.seconds)
        self.mixer, self.seconds = Mixer(self._rate, self.channels, self._outputs), 0.0


def decode(
    path: str | Path,
    rate: int,
    output: Output,
    on_progress: Callable[[float], None] = lambda seconds: None,
    channels: str = MEAN,
    outputs: int = 1,
    keep_one_sided: bool = False,
) -> Facts:
    """Decodes a file into `output` at `rate` Hz, as mono or stereo.

    Mono is the mean of the channels, or the loudest where they cancel each other. Stereo is the first two channels, or
    one of them on both sides where the file has no other, or where the other is silent.

    Args:
        path: The file.
        rate: Wanted rate in Hz.
        output: Takes the blocks.
        on_progress: Gets the seconds of each block; negative ones when another decoder begins.
        channels: Those that are used, as `parse_channels` reads them.
        outputs: Channels of the output: 1 or 2.
        keep_one_sided: Whether a silent side of stereo stays silent.

    Returns:
        What is known of the file; its note says what is missing or odd.

    Raises:
        DecodingError: when no decoder finds audio, or less than half of what the file announces.
    """
    chosen = parse_channels(channels, outputs)
    work = _Pass(rate, output, on_progress, chosen.indices, outputs)
    facts = _decode(path, work)
    notes = [facts.note] if facts.note else []
    if not USUAL_LOWEST <= facts.rate <= USUAL_HIGHEST:
        notes.append(f"unusual: its header names a rate of {facts.rate:,} Hz")
    with _reading():
        second = riff.second_file(path)
    if second is not None:
        notes.append(
            f"joined: another file begins at byte {second:,}, which is not read; save both as files of their own"
        )
    if work.mixer.repaired:
        notes.append(f"repaired: {work.mixer.repaired} single wild sample{'s' * (work.mixer.repaired > 1)}")
    used = range(facts.channels) if chosen.indices is None else chosen.indices
    absent = [index + 1 for index in used if index >= facts.channels > 1]
    if absent:
        notes.append(f"channels: it has only {facts.channels}, so the last is used for channel {absent[0]}")
    if outputs == 2 and chosen == Channels() and facts.channels > 2:
        notes.append(f"channels: it has {facts.channels}, so the first two are left and right")
    loudest = used[work.mixer.loudest] if work.mixer.loudest < len(used) else 0
    only = None if keep_one_sided or chosen.louder else work.mixer.only_side
    if work.mixer.cancels:
        notes.append(f"cancelling: its channels cancel each other, so only channel {loudest + 1} is used")
    elif only is not None:
        loudest = used[only] if only < len(used) else only
        notes.append(f"one-sided: only channel {loudest + 1} has sound, so it is on both sides")
    if work.mixer.cancels or only is not None or (chosen.louder and facts.channels > 1):
        work.channels = (loudest,)
        work.again()
        _decode(path, work)
    return replace(facts, note="; ".join(notes))


def _decode(path: str | Path, work: _Pass) -> Facts:
    """Decodes with the decoder that is believed; see `decode`."""
    with _reading():
        is_mpeg, announced = mpeg.look(path)
    if is_mpeg:  # libsndfile estimates its length, reads the first of joined files, and prints notes
        facts, heard = _by_ffmpeg(path, work)
        if facts:
            return _judged(replace(facts, seconds=announced), heard)
        work.again()
    facts, first = _by_libsndfile(path, work)
    if facts and not (facts.doubt or first.problem or facts.ask_both):
        return _judged(facts, first)
    work.again()
    if facts and facts.doubt == CHAINED:
        return _chained(path, work, facts)
    other, second = _by_ffmpeg(path, work, ignore_length=facts is not None and facts.doubt == MORE_DATA)
    if other and facts and facts.doubt:
        return _judged(replace(facts, rate=other.rate, channels=other.channels), second)
    if other and not (facts and first_is_believed(first, second)):
        if facts and facts.seconds is not None:
            known = replace(other, seconds=facts.seconds, exact=facts.exact)
            return _judged(known, replace(second, problem=first.problem))
        malformed = "damaged: its header is wrong" if MALFORMED in first.problem else ""
        known_note = facts.note if facts else ""
        return _judged(replace(other, note="; ".join(filter(None, (malformed, known_note, other.note)))), second)
    if not facts:
        raise DecodingError(_unreadable(path, first.problem))
    work.again()
    facts, first = _by_libsndfile(path, work, in_spite_of_doubt=True)
    assert facts
    return _judged(facts, first)


def _chained(path: str | Path, work: _Pass, facts: Facts) -> Facts:
    """Decodes the streams of an Ogg file one after the other; their rates and channels may differ."""
    notes, problem = [facts.note] if facts.note else [], ""
    for number, span in enumerate(ogg.streams(path), start=1):
        before = work.seconds
        found, heard = _by_ffmpeg(path, work, span=span)
        with _reading():
            promised = ogg.announced_seconds(path, span, found.rate) if found else None
        wrong = heard.problem or (found.note if found else "")
        if not wrong and promised and promised - (work.seconds - before) > PADDING_S:
            wrong = f"truncated or damaged: {work.seconds - before:.2f} of {promised:.2f} s"
        if wrong:
            problem = problem or wrong
            notes.append(f"damaged: stream {number}: {wrong}")
    if not work.seconds:
        raise DecodingError(problem or "empty: it has no samples")
    return replace(facts, seconds=work.seconds, note="; ".join(notes))


def inspect(path: str | Path, has_audio_name: bool = True) -> Facts:
    """What the headers of a file say, without decoding it; raises DecodingError.

    FFmpeg may take any data for audio without a header, so it is asked about files with the name of audio only.
    """
    with _reading():
        is_mpeg, announced = mpeg.look(path)
    try:
        if is_mpeg:
            with open_ffmpeg(path) as other:
                check_rate(other.rate)
                return Facts(other.rate, other.channels, announced)
        with open_sndfile(path) as file:
            check_rate(file.rate)
            return Facts(file.rate, file.channels, file.frames / file.rate if file.frames else None)
    except DecodingError as error:
        if error.kind != "unreadable" or str(error).startswith(RATE) or not has_audio_name:
            raise
        try:
            with open_ffmpeg(path) as other:
                check_rate(other.rate)
                return Facts(other.rate, other.channels, other.seconds)
        except DecodingError:
            raise DecodingError(_unreadable(path, str(error))) from None


def check_rate(rate: int) -> None:
    """Raises DecodingError for a sample rate that no recording has."""
    if not LOWEST <= rate <= HIGHEST:
        raise DecodingError(f"{RATE} {rate:,} Hz, not {LOWEST:,} to {HIGHEST:,}")


@contextmanager
def _reading() -> Iterator[None]:
    """A file that cannot be read is a DecodingError; what an output raises is not."""
    try:
        yield
    except OSError as error:
        raise DecodingError(reason(error)) from None


def _facts_of(path: str | Path, file: SndFile) -> Facts:
    """What the container says, beyond what libsndfile makes of it."""
    check_rate(file.rate)
    seconds = file.frames / file.rate / file.promise.share if file.frames and file.promise.share else None
    facts = Facts(file.rate, file.channels, seconds, note=file.promise.note, exact=file.format in EXACT)
    with _reading():
        if file.format == "OGG":
            cut = "" if ogg.ends_whole(path) else "truncated: its last Ogg page is incomplete"
            spans = ogg.streams(path)
            orphans = ogg.has_orphans(path, spans)
            lost = 0 if orphans else sum(ogg.damaged_pages(path, span) for span in spans)
            note = ORPHANS if orphans else f"damaged: Ogg pages are damaged or missing at {lost} places" if lost else ""
            note = "; ".join(filter(None, (cut, note)))
            doubt = CHAINED if len(spans) > 1 else ""
            seconds = None if doubt or orphans else ogg.announced_seconds(path, spans[0], file.rate)
            return replace(facts, seconds=seconds, doubt=doubt, note=note, ask_both=orphans)
        wav = file.format in ("WAV", "WAVEX") and riff.has_more_data(path)
        if wav or (file.format == "FLAC" and flac.has_more_samples(path)):
            doubt = MORE_DATA if wav else "it has more samples than its header says"
            return replace(facts, seconds=None, doubt=doubt, note=f"its header is wrong: {doubt}")
    return facts


def _by_libsndfile(path: str | Path, work: _Pass, in_spite_of_doubt: bool = False) -> tuple[Facts | None, Heard]:
    """Decodes with libsndfile; without facts when it cannot open the file, and nothing when it would read it short."""
    try:
        with open_sndfile(path) as file:
            facts, frames = _facts_of(path, file), 0
            if facts.doubt and not in_spite_of_doubt:
                return facts, Heard(0.0)
            try:
                for block in file.blocks():
                    frames += len(block)
                    work.take(block, file.rate, file.full_scale)
            except DecodingError as error:
                if error.kind != "unreadable":  # of the output
                    raise
                return facts, Heard(work.seconds, str(error))
            work.end()
            short = file.frames is not None and frames < file.frames
            problem = f"truncated or damaged: {frames} of {file.frames} frames could be decoded" if short else ""
            if file.format == "OGG" and (facts.seconds or 0) - work.seconds > PADDING_S:
                problem = "truncated or damaged: damaged pages"
            return facts, Heard(work.seconds, problem)
    except DecodingError as error:
        if error.kind != "unreadable" or str(error).startswith(RATE):
            raise
        return None, Heard(0.0, str(error))


def _by_ffmpeg(
    path: str | Path, work: _Pass, ignore_length: bool = False, span: tuple[int, int] | None = None
) -> tuple[Facts | None, Heard]:
    """Decodes with FFmpeg; without facts when it cannot open the file."""
    try:
        with open_ffmpeg(path, ignore_length, span) as file:
            check_rate(file.rate)
            facts = Facts(file.rate, file.channels, file.seconds)
            try:
                for block, rate in file.blocks():
                    check_rate(rate)
                    work.take(block, rate)
            except DecodingError as error:
                if error.kind != "unreadable":  # of the output
                    raise
                return facts, Heard(work.seconds, str(error))
            work.end()
            # A little is not worth a note: where MP3 files were joined, a packet refers to data that is missing.
            note = f"damaged: {file.damaged} of its packets cannot be decoded" if file.lost_s > PADDING_S else ""
            return replace(facts, note=note), Heard(work.seconds)
    except DecodingError as error:
        if error.kind != "unreadable":
            raise
        return None, Heard(0.0, str(error))


def _judged(facts: Facts, heard: Heard) -> Facts:
    """The facts with the seconds that were heard, and a note on what is missing; raises DecodingError."""
    missing = judged(facts.seconds, heard, facts.exact)
    other = "" if missing and facts.note.startswith("damaged: ") else facts.note  # of the same damage
    return replace(facts, seconds=heard.seconds, note="; ".join(filter(None, (missing, other))))


def _unreadable(path: str | Path, problem: str) -> str:
    """The reason for a file that no decoder opens."""
    try:
        with open(os.fsencode(path), "rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError as error:
        return reason(error)
    if head.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "unreadable: it is a page of HTML or XML, not audio"
    return problem if "ormat not" not in problem else "unreadable: not a known audio format"
