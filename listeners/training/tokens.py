"""Texts as integers: the distinct words in string order, and the rank of every token.

What a text is made of depends on the text alone, so it is remembered from one dataset to the next in a `TokenFile`.
Whatever depends on the whole dataset (frequencies, vocabulary, idf) is never remembered.
"""

import hashlib
import io
import os
import platform
import tempfile
import time
import unicodedata
import zipfile
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import sklearn
import structlog

from listeners.training import text as cleaning

logger = structlog.get_logger()

_Ints: TypeAlias = npt.NDArray[np.int64]
_Ranks: TypeAlias = npt.NDArray[np.int32]

Split: TypeAlias = Callable[[str], list[str]]
_DIGEST_BYTES: Final = 16  # of a text: no two texts of any size of dataset share one, by chance or by design
_SHA256_BYTES: Final = 32
_ABANDONED_S: Final = 3600.0
_ARRAYS: Final = {
    "version": np.uint8,
    "texts": np.uint8,
    "lengths": np.int64,
    "ranks": np.int32,
    "words": np.uint8,
}


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts.

    Attributes:
        words: the distinct words, in string order; each occurs.
        ranks: position in `words` of every token, text after text, shape (n_tokens,), int32.
        lengths: tokens of each text, shape (n_texts,), int64.
    """

    words: list[str]
    ranks: _Ranks
    lengths: _Ints


_Known: TypeAlias = tuple[list[bytes], Tokens]  # digests of texts, and their tokens


def tokenise(texts: Iterable[str], split: Split) -> Tokens:
    """Split each text and rank its words."""
    code_of: defaultdict[str, int] = defaultdict()
    code_of.default_factory = code_of.__len__
    codes, lengths = array("i"), array("q")
    for one in texts:
        tokens = split(one)
        codes.extend(map(code_of.__getitem__, tokens))
        lengths.append(len(tokens))
    return _ranked(list(code_of), np.asarray(codes, np.int32), np.asarray(lengths, np.int64))


def _ranked(words: Sequence[str], codes: _Ranks, lengths: _Ints) -> Tokens:
    """Tokens from the position of each in `words`, which are distinct, in any order, and need not all occur."""
    occurring = np.flatnonzero(np.bincount(codes, minlength=len(words))).tolist()
    occurring.sort(key=words.__getitem__)
    rank_of_code = np.zeros(len(words), np.int32)
    rank_of_code[occurring] = np.arange(len(occurring), dtype=np.int32)
    return Tokens([words[code] for code in occurring], rank_of_code[codes], lengths)


class TokenFile:
    """The tokens of the texts of the last dataset, in a file that may be deleted, cut short or damaged at any time.

    It is replaced as a whole, and holds no text that the last dataset did not: so it is bounded, and of several writers the
    last one wins. Its first 32 bytes are the SHA-256 of the rest, an npz archive without pickles. The texts are known by
    their BLAKE2b digests. It is ignored when it was written by other code than this, or under other libraries.

    Args:
        path: of the file; its directory is made.
        rule: names how `split` splits.
    """

    def __init__(self, path: Path, rule: str) -> None:
        self._path = path
        self._version = _version(rule)

    def tokenise(self, texts: Sequence[str], split: Split) -> Tokens:
        """As `tokenise` of the module, which is asked for nothing but the texts that the file does not know.

        Args:
            texts: distinct, shape (n,).
            split: a function of the text alone.
        """
        digests = [_digest(text) for text in texts]
        known_digests, known = self._read()
        row_of = {digest: row for row, digest in enumerate(known_digests)}
        rows = np.fromiter((row_of.get(digest, -1) for digest in digests), np.int64, len(digests))
        is_new = np.flatnonzero(rows < 0)
        new = tokenise((texts[position] for position in is_new.tolist()), split)
        rows[is_new] = len(known_digests) + np.arange(len(is_new))
        tokens = _taken(_joined(known, new), rows)
        if len(is_new) or len(texts) != len(known_digests):
            self._write(digests, tokens)
        return tokens

    def _read(self) -> _Known:
        nothing: _Known = [], Tokens([], np.empty(0, np.int32), np.empty(0, np.int64))
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return nothing
        except OSError as error:
            return self._ignored(str(error), nothing)
        payload = memoryview(content)[_SHA256_BYTES:]
        if hashlib.sha256(payload).digest() != content[:_SHA256_BYTES]:
            return self._ignored("its digest is wrong", nothing)
        try:
            with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
                stored = {name: archive[name].astype(kind, copy=False) for name, kind in _ARRAYS.items()}
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            return self._ignored(str(error), nothing)
        if stored["version"].tobytes() != self._version:
            return self._ignored("written by another version", nothing)
        texts = stored["texts"].tobytes()
        digests = [texts[first : first + _DIGEST_BYTES] for first in range(0, len(texts), _DIGEST_BYTES)]
        joined = stored["words"].tobytes().decode("utf-8", "surrogatepass")
        words = joined.split("\n") if joined else []
        return digests, Tokens(words, stored["ranks"], stored["lengths"])

    def _ignored(self, reason: str, nothing: _Known) -> _Known:
        logger.warning("feature cache ignored, it is made anew", path=str(self._path), reason=reason)
        return nothing

    def _write(self, digests: Sequence[bytes], tokens: Tokens) -> None:
        payload = io.BytesIO()
        np.savez(
            payload,
            version=np.frombuffer(self._version, np.uint8),
            texts=np.frombuffer(b"".join(digests), np.uint8),
            lengths=tokens.lengths,
            ranks=tokens.ranks,
            words=np.frombuffer("\n".join(tokens.words).encode("utf-8", "surrogatepass"), np.uint8),
        )
        try:
            _replace(self._path, payload.getbuffer())
        except OSError as error:  # a full disk, say: the next dataset costs more, and that is all
            logger.warning("feature cache not written", path=str(self._path), reason=str(error))


def _replace(path: Path, payload: memoryview) -> None:
    """Write the file beside `path` and rename it, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}."
    for left_over in path.parent.glob(f"{prefix}*"):  # of a writer that was killed
        with suppress(FileNotFoundError):
            if time.time() - left_over.stat().st_mtime > _ABANDONED_S:
                left_over.unlink()
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _joined(known: Tokens, new: Tokens) -> Tokens:
    """The texts of both; of the words, the order is not that of strings yet, see `_taken`."""
    code_of = {word: code for code, word in enumerate(known.words)}
    codes = [code_of.setdefault(word, len(code_of)) for word in new.words]
    return Tokens(
        list(code_of),
        np.concatenate([known.ranks, np.array(codes, np.int32)[new.ranks]]),
        np.concatenate([known.lengths, new.lengths]),
    )


def _taken(tokens: Tokens, rows: _Ints) -> Tokens:
    """The texts at `rows`, in that order, and their words in string order."""
    ends = np.cumsum(tokens.lengths)
    lengths = tokens.lengths[rows]
    shifts = ends[rows] - np.cumsum(lengths)  # from a token's place in the result to its place in `tokens`
    places = np.arange(lengths.sum()) + np.repeat(shifts, lengths)
    return _ranked(tokens.words, tokens.ranks[places], lengths)


def _version(rule: str) -> bytes:
    """Of everything that decides what a text is split into: this code, the cleaning's, Python's tables, scikit-learn's."""
    digest = hashlib.sha256()
    for module in (__file__, cleaning.__file__):
        digest.update(Path(module).read_bytes())
    versions = (rule, platform.python_version(), unicodedata.unidata_version, sklearn.__version__)
    digest.update(repr(versions).encode())
    return digest.digest()
