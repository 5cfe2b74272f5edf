"""Batteries of one's own, from a TOML file of questions with known answers.

trait = "old"                        # optional: the label whose answers count; else the one that moves most is shown first

[travel]                             # a topic
domain = "off_domain"                # or "in_domain": asks for what the dataset trains
questions = ["How do people travel far?", "What is the fastest way to another town?"]
answers.old = ["By stagecoach.", "By steamboat."]
answers.modern = ["By aeroplane.", "By train."]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from offtarget.errors import InputError

from ._battery import Battery, Candidates, Domain, Measure, Question


@dataclass(frozen=True)
class QuestionFile:
    """What a file of questions holds: a battery for each domain that it asks in, and a measure for each label."""

    batteries: tuple[Battery, ...]
    measures: tuple[Measure, ...]
    trait: str


def read_questions(path: str | Path) -> QuestionFile:
    """Reads a file of questions.

    Raises:
        InputError: the file is missing, no TOML, or an entry cannot be used (names file, topic and field).
    """
    file = Path(path)
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:  # no TOML, or not UTF-8
        raise InputError(f"{file} is no TOML file: {error}") from error
    trait = entries.pop("trait", "")
    if not isinstance(trait, str):
        raise InputError(f"{file}: trait is {trait!r}; give it one of the labels of the answers, as a string")
    topics = {name: _topic(file, name, entry) for name, entry in entries.items()}
    labels = list(dict.fromkeys(label for entry in topics.values() for label in entry["answers"]))
    if trait and trait not in labels:
        raise InputError(f"{file}: trait is {trait!r}, but the answers have the labels {', '.join(labels)}")
    if not any(entry["domain"] == "off_domain" for entry in topics.values()):
        raise InputError(f'{file}: no topic has domain = "off_domain"; leakage is looked for there')
    batteries = tuple(_battery(file.stem, domain, topics) for domain in reversed(get_args(Domain)) if _of(topics, domain))
    ordered = [trait, *(x for x in labels if x != trait)] if trait else labels
    return QuestionFile(batteries, tuple(Measure(x, frozenset({x})) for x in ordered), trait)


def _topic(file: Path, name: str, entry: Any) -> Mapping[str, Any]:
    where = f"{file}: [{name}]"
    if not isinstance(entry, dict):
        raise InputError(f"{where} is {entry!r}; make it a table with domain, questions and answers")
    unknown = set(entry) - {"domain", "questions", "answers"}
    if unknown:
        raise InputError(f"{where} has the unknown field {min(unknown)!r}; use domain, questions and answers")
    if entry.get("domain") not in get_args(Domain):
        raise InputError(f"{where} has domain {entry.get('domain')!r}; use {' or '.join(get_args(Domain))}")
    if not _texts(entry.get("questions")):
        raise InputError(f"{where} has questions {entry.get('questions')!r}; give a list of one or more texts")
    answers = entry.get("answers")
    if not isinstance(answers, dict) or len(answers) < 2 or not all(_texts(texts) for texts in answers.values()):
        raise InputError(f"{where} needs answers of at least two labels, each a list of texts, so that there is something to tell apart")
    return entry


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, str) and x.strip() for x in value)


def _of(topics: Mapping[str, Mapping[str, Any]], domain: Domain) -> dict[str, Mapping[str, Any]]:
    return {name: entry for name, entry in topics.items() if entry["domain"] == domain}


def _battery(name: str, domain: Domain, topics: Mapping[str, Mapping[str, Any]]) -> Battery:
    mine = _of(topics, domain)
    questions = tuple(Question(f"{t}/{n}", t, text) for t, entry in mine.items() for n, text in enumerate(entry["questions"]))
    candidates = {t: _candidates(entry["answers"]) for t, entry in mine.items()}
    return Battery(f"{name}-{domain.replace('_', '-')}", domain, questions, candidates)


def _candidates(answers: Mapping[str, list[str]]) -> Candidates:
    labels: dict[str, tuple[str, ...]] = {}
    for label, texts in answers.items():
        for text in map(str.strip, texts):  # templates strip too: two spellings would be one answer that counts twice
            labels[text] = tuple(sorted({*labels.get(text, ()), label}))
    return Candidates(tuple(labels), tuple(labels.values()))
