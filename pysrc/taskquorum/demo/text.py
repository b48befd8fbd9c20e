"""The computations of the demo's six stages: pure, and exact.

Every result is made of strings, whole numbers and sorted lists, so that two computations of the
same input are equal byte for byte wherever they ran. Similarity is the cosine of tf-idf vectors
(Salton & Buckley 1988, "Term-weighting approaches in automatic text retrieval"), in thousandths.
"""

from __future__ import annotations

import hashlib
import lzma
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WORDS_KEPT = 400
"""Most frequent words that *extract* passes on."""
TERMS_KEPT = 64
"""Leading terms of a file."""
IDF_TERMS_MAX = 20_000
NEIGHBOURS_KEPT = 5
SIMILAR_MIN = 150
"""Least similarity (thousandths) that counts."""
REPORT_TERMS, REPORT_PAIRS, REPORT_FILES = 40, 60, 200
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_STOP_WORDS = frozenset(
    """
    and are but can for from has have into its not one other see some such than that the their then there these they this
    use used using was were when which will with would you your all any may must only def self class return import none true
    false raise except try elif else while yield lambda pass break continue global assert finally async await int str
    """.split()  # noqa: SIM905 (a list of so many strings is not readable)
)

Vector = Mapping[str, int]


class InputChanged(ValueError):
    """A file is no longer what was submitted."""


def extract(name: str, raw: bytes, sha256: str) -> dict[str, Any]:
    """Stage 1, per file: checks the content, counts its words, and measures how much of it is repetition."""
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise InputChanged(f"{name} has changed since the job was submitted")
    text = raw.decode("utf-8", "replace")
    words = Counter(word.lower() for word in _WORD.findall(text) if len(word) > 2)
    return {
        "file": name,
        "bytes": len(raw),
        "lines": text.count("\n") + 1,
        "words": sum(words.values()),
        "packed_permille": 1000 * len(lzma.compress(raw, preset=6)) // len(raw),
        "counts": _leading(words, WORDS_KEPT),
    }


def terms(extracted: Mapping[str, Any]) -> dict[str, Any]:
    """Stage 2, per file: the terms that carry meaning, plural and singular as one."""
    counts: Counter[str] = Counter()
    for word, count in extracted["counts"]:
        if word not in _STOP_WORDS:
            counts[_singular(word)] += count
    return {
        "file": extracted["file"],
        "bytes": extracted["bytes"],
        "words": extracted["words"],
        "packed_permille": extracted["packed_permille"],
        "terms": _leading(counts, TERMS_KEPT),
    }


def merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Stage 3, per group of files: their vectors side by side, and in how many files each term is."""
    files = sorted(parts, key=lambda part: str(part["file"]))
    frequency = Counter(term for part in files for term, _ in part["terms"])
    return {
        "files": [[part["file"], part["terms"]] for part in files],
        "bytes": sum(part["bytes"] for part in files),
        "words": sum(part["words"] for part in files),
        "packed": sorted([part["packed_permille"], part["file"]] for part in files)[:NEIGHBOURS_KEPT],
        "frequency": sorted([term, count] for term, count in frequency.items()),
    }


def inverse_frequency(groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Stage 4: how telling each term is over all files, in thousandths."""
    documents, frequency = 0, Counter[str]()
    for group in groups:
        documents += len(group["files"])
        frequency.update(dict(group["frequency"]))
    common = _leading(Counter({term: count for term, count in frequency.items() if count > 1}), IDF_TERMS_MAX)
    weights = [[term, round(1000 * math.log((1 + documents) / (1 + count)))] for term, count in common]
    return {"documents": documents, "idf": sorted(weights)}


def similar(groups: Sequence[Mapping[str, Any]], idf: Mapping[str, Any], asked: Iterable[str]) -> dict[str, Any]:
    """Stage 5, per share of the files: each one's nearest neighbours among all files."""
    vectors = _vectors(groups, idf)
    postings: dict[str, list[str]] = {}
    for name, vector in vectors.items():
        for term in vector:
            postings.setdefault(term, []).append(name)
    squares = {name: sum(weight * weight for weight in vector.values()) for name, vector in vectors.items()}
    neighbours = []
    for name in sorted(asked):
        products: Counter[str] = Counter()
        for term, weight in vectors[name].items():
            for other in postings[term]:
                products[other] += weight * vectors[other][term]
        del products[name]
        scores = Counter(
            {other: 1000 * dot // (math.isqrt(squares[name] * squares[other]) or 1) for other, dot in products.items()}
        )
        near = [[other, score] for other, score in _leading(scores, NEIGHBOURS_KEPT) if score >= SIMILAR_MIN]
        neighbours.append([name, near])
    return {"neighbours": neighbours}


def report(groups: Sequence[Mapping[str, Any]], idf: Mapping[str, Any], shares: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Stage 6: what there is to say about the whole."""
    vectors = _vectors(groups, idf)
    weights: Counter[str] = Counter()
    for vector in vectors.values():
        weights.update(vector)
    pairs = Counter[tuple[str, str]]()
    for share in shares:
        for name, near in share["neighbours"]:
            for other, score in near:
                pairs[min(name, other), max(name, other)] = score
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    subjects = [[name, [term for term, _ in _leading(Counter(vectors[name]), 5)]] for name in sorted(vectors)]
    return {
        "files": len(vectors),
        "bytes": sum(group["bytes"] for group in groups),
        "words": sum(group["words"] for group in groups),
        "distinct_terms": len(idf["idf"]),
        "terms": _leading(weights, REPORT_TERMS),
        "pairs": [[first, second, score] for (first, second), score in ranked[:REPORT_PAIRS]],
        "similar_pairs": len(ranked),
        "most_repetitive": sorted(item for group in groups for item in group["packed"])[:10],
        "subjects": subjects[:REPORT_FILES],
    }


def _vectors(groups: Iterable[Mapping[str, Any]], idf: Mapping[str, Any]) -> dict[str, Vector]:
    weight = dict(idf["idf"])
    files = [item for group in groups for item in group["files"]]
    return {name: {term: count * weight[term] for term, count in found if weight.get(term)} for name, found in sorted(files)}


def _leading(counts: Mapping[str, int], limit: int) -> list[list[Any]]:
    """The largest first, equals by name."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[name, count] for name, count in ranked[:limit]]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith("ss") else word
