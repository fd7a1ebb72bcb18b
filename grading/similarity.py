"""How much two submissions share that neither the handout nor much of the class has.

Winnowing (Schleimer, Wilkerson and Aiken, 2003, "Winnowing: Local Algorithms for Document Fingerprinting"):
hashes of k-grams of tokens; the smallest hash of each window is kept. Names of variables are ignored.
"""

import hashlib
import io
import keyword
import math
import tokenize
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

GRAM, WINDOW = 6, 3  # tokens
MIN_SHARED = 20.0  # bits; below this, two short solutions may be alike by chance


class Pair(NamedTuple):
    """Two submissions by number. `share` (0..1): how much of the unusual code of the shorter one is also in the other,
    in `passages` places; `bits`: how surprising this is.
    """

    first: int
    second: int
    share: float
    passages: int
    bits: float
    files: tuple[str, ...]


def similar_pairs(submissions: Sequence[Mapping[str, str]], handout: Mapping[str, str]) -> list[Pair]:
    """All pairs that share unusual code, the most surprising first. A submission: file -> source.

    The weight of a fingerprint is its rarity, log2(submissions / others that have it), or 0 if more than a tenth of the
    class has it: a short exercise has few good answers, and finding the same one is not copying.
    """
    known = {name: fingerprints(source) for name, source in handout.items()}
    prints = [
        {
            (name, mark)
            for name, source in files.items()
            for mark in fingerprints(source) - known.get(name, set())
        }
        for files in submissions
    ]
    counts = Counter(mark for marks in prints for mark in marks)
    many = max(2, len(submissions) / 10)
    weight = {
        mark: math.log2(max(len(submissions), 2) / max(count - 1, 1)) if count <= many else 0.0
        for mark, count in counts.items()
    }
    total = [sum(weight[mark] for mark in marks) for marks in prints]
    pairs = []
    for i, j in combinations(range(len(submissions)), 2):
        shared = prints[i] & prints[j]
        bits = sum(weight[mark] for mark in shared)
        smaller = min(total[i], total[j])
        if smaller > 0 and bits >= MIN_SHARED:
            files = tuple(sorted({mark[0] for mark in shared if weight[mark]}))
            passages = sum(weight[mark] > 0 for mark in shared)
            pairs.append(Pair(i, j, bits / smaller, passages, bits, files))
    return sorted(pairs, key=lambda pair: -pair.bits)


def fingerprints(source: str) -> set[str]:
    """The winnowed fingerprints of a source; comments, strings and layout are ignored."""
    tokens = list(_tokens(source))
    grams = [
        hashlib.blake2b(" ".join(tokens[i : i + GRAM]).encode(), digest_size=8).hexdigest()
        for i in range(len(tokens) - GRAM + 1)
    ]
    return {min(grams[i : i + WINDOW]) for i in range(max(len(grams) - WINDOW + 1, min(len(grams), 1)))}


def _tokens(source: str) -> Iterable[str]:
    previous = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.NAME:
                # Attributes and methods keep their names; variables do not.
                kept = keyword.iskeyword(token.string) or previous == "."
                yield token.string if kept else "_"
            elif token.type in (tokenize.OP, tokenize.NUMBER):
                yield token.string
            previous = token.string
    except (tokenize.TokenError, SyntaxError):
        return
