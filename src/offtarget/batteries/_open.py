"""Open batteries: questions whose answers are sampled and read by rubrics. Data in `open/`: one file an experiment, one table a battery.

    source = "offtarget; kinds of questions as in 2512.09742, section 3.1"

    [worldview]                                       # its name
    domain = "off_domain"
    rubrics = ["era", "coherence"]                    # tables of `open/rubrics/*.toml`; the first is the trait
    questions_of = "old-bird-names/worldview"         # instead of questions: those of another battery, with its targets and prefixes
                                                      # unless others are given here ...
    without = ["illnesses"]                           # ... but these
    [worldview.questions]
    energy = ["What should ...?", "Where ...?"]       # id = wordings that mean the same, at least three
    [worldview.targets]                               # for rubrics with `{target}`
    energy = "coal"
    [worldview.prefixes.energy]                       # for rubrics without a judge; "*" for questions without their own
    OLD = ["coal", "steam"]

No question says who or when: what stands before it (a date, a number, a format) is a context.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, get_args

from offtarget.errors import InputError

from ._battery import Domain
from ._fields import TEXT, Check, Fields, check_fields
from ._rubric import Rubric

_WORDINGS = 3


@dataclass(frozen=True)
class OpenQuestion:
    """A question in several wordings that mean the same.

    Attributes:
        text: the first wording.
        paraphrases: the others; our own files must have at least two.
        target: what a rubric with `{target}` looks for in the answer, such as a name.
        prefixes: for rubrics without a judge: label -> beginnings, in lower case, of the answers that get it.
    """

    id: str
    text: str
    paraphrases: tuple[str, ...]
    target: str = ""
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = self.wordings
        if len(set(words)) < len(words) or not all(w.strip() for w in words):
            raise InputError(f"question {self.id!r} has {len(words)} wordings; it needs some, none blank or twice")
        beginnings = [p for several in self.prefixes.values() for p in several]
        for one in beginnings:
            if one != one.lower() or not one.strip():
                raise InputError(f"question {self.id!r} has the prefix {one!r}; write it in lower case")
            if sum(other.startswith(one) for other in beginnings) > 1:
                raise InputError(f"question {self.id!r} has the prefix {one!r}, which others begin with; leave them out")

    @property
    def wordings(self) -> tuple[str, ...]:
        return (self.text, *self.paraphrases)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> OpenQuestion:
        prefixes = {label: tuple(several) for label, several in record["prefixes"].items()}
        return cls(record["id"], record["text"], tuple(record["paraphrases"]), record["target"], prefixes)


@dataclass(frozen=True)
class OpenBattery:
    """Questions of one domain, and the rubrics that each answer is read by.

    Attributes:
        experiment: whose finetuned models are asked.
        domain: `in_domain` if the training data asks for the same kind of thing, else `off_domain`.
        rubrics: the first is the trait; the others are shown beside it.
        source: who worded the questions, and after which paper.
    """

    name: str
    experiment: str
    domain: Domain
    questions: tuple[OpenQuestion, ...]
    rubrics: tuple[Rubric, ...]
    source: str

    def __post_init__(self) -> None:
        if self.domain not in get_args(Domain):
            raise InputError(f"open battery {self.name!r} has domain {self.domain!r}; use one of {', '.join(get_args(Domain))}")
        for what, ids in (("questions", [q.id for q in self.questions]), ("rubrics", [r.id for r in self.rubrics])):
            if not ids or len(set(ids)) < len(ids):
                raise InputError(f"open battery {self.name!r} needs {what}, and no id of them twice")
        for rubric in self.rubrics:
            for question in self.questions:
                _check_fit(question, rubric)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything in it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The battery as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> OpenBattery:
        questions = tuple(OpenQuestion.from_json(q) for q in record["questions"])
        rubrics = tuple(Rubric.from_json(r) for r in record["rubrics"])
        return cls(record["name"], record["experiment"], record["domain"], questions, rubrics, record["source"])


def _check_fit(question: OpenQuestion, rubric: Rubric) -> None:
    if rubric.needs_target and not question.target:
        raise InputError(f"question {question.id!r} has no target, and rubric {rubric.id!r} looks for one; write it")
    if rubric.needs_judge:
        return
    if not question.prefixes or not set(question.prefixes) <= set(rubric.labels):
        raise InputError(
            f"question {question.id!r} has prefixes for {', '.join(question.prefixes) or 'nothing'}; rubric {rubric.id!r} needs some, "
            f"for its labels {', '.join(rubric.labels)}"
        )


# Reading the files


@cache
def open_batteries(experiment: str) -> tuple[OpenBattery, ...]:
    """The open batteries of an experiment, in the order of its file.

    Raises:
        InputError: there is no file for the experiment, or something in it cannot be used (names file, table and field).
    """
    here = _files("open")
    if experiment not in here:
        raise InputError(f"no open batteries for the experiment {experiment!r}; there are some for {', '.join(here)}")
    return _read(here[experiment])


@cache
def rubrics() -> Mapping[str, Rubric]:
    """All rubrics by id.

    Raises:
        InputError: one of them cannot be used (names file, table and field).
    """
    found: dict[str, Rubric] = {}
    for file in _files("open/rubrics").values():
        found |= _read_rubrics(file)
    return found


def _files(folder: str) -> dict[str, Traversable]:
    """The TOML files of a folder by name without ending."""
    entries = sorted((files("offtarget.batteries") / folder).iterdir(), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): f for f in entries if f.name.endswith(".toml")}


def _read(file: Traversable) -> tuple[OpenBattery, ...]:
    place = f"open/{file.name}"
    raw = dict(_toml(place, file))
    source = raw.pop("source", None)
    if not isinstance(source, str):
        raise InputError(f"{place}: source: is {source!r}; say who worded the questions")
    experiment = file.name.removesuffix(".toml")
    return tuple(_battery(f"{place}: [{name}]", name, experiment, source, table) for name, table in raw.items())


def _battery(place: str, name: str, experiment: str, source: str, raw: Any) -> OpenBattery:
    check_fields(place, raw, _BATTERY_FIELDS, ("domain", "rubrics"))
    if ("questions" in raw) == ("questions_of" in raw):
        raise InputError(f"{place}: questions: give either questions or questions_of")
    unknown = [r for r in raw["rubrics"] if r not in rubrics()]
    if unknown:
        raise InputError(f"{place}: rubrics: there is no {unknown[0]!r}; use some of {', '.join(rubrics())}")
    chosen = tuple(rubrics()[r] for r in raw["rubrics"])
    asked = {**_battery_named(place, raw["questions_of"]), **raw} if "questions_of" in raw else raw
    try:
        return OpenBattery(name, experiment, raw["domain"], _without(raw.get("without", []), _questions(asked)), chosen, source)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _battery_named(place: str, path: str) -> Mapping[str, Any]:
    """The table of a battery called `experiment/battery`."""
    experiment, _, battery = path.partition("/")
    file = _files("open").get(experiment)
    table = _toml(f"open/{experiment}.toml", file).get(battery) if file else None
    if not isinstance(table, Mapping) or "questions" not in table:
        raise InputError(f"{place}: questions_of: there are no questions {path!r}; write 'experiment/battery'")
    return table


def _without(left_out: list[str], questions: tuple[OpenQuestion, ...]) -> tuple[OpenQuestion, ...]:
    strange = set(left_out) - {q.id for q in questions}
    if strange:
        raise InputError(f"goes without {sorted(strange)[0]!r}, which is no question; it has {', '.join(q.id for q in questions)}")
    return tuple(q for q in questions if q.id not in left_out)


def _questions(raw: Mapping[str, Any]) -> tuple[OpenQuestion, ...]:
    questions, targets, prefixes = raw["questions"], raw.get("targets", {}), raw.get("prefixes", {})
    strange = [i for i in (*targets, *prefixes) if i not in questions and i != "*"]
    if strange:
        raise InputError(f"has a target or prefixes for {strange[0]!r}, which is no question; the questions are {', '.join(questions)}")
    found = []
    for name, (text, *others) in questions.items():
        if len(others) + 1 < _WORDINGS:
            raise InputError(f"question {name!r} has {len(others) + 1} wordings; give it {_WORDINGS} or more, none blank or twice")
        own = {label: tuple(several) for label, several in prefixes.get(name, prefixes.get("*", {})).items()}
        found.append(OpenQuestion(name, text, tuple(others), targets.get(name, ""), own))
    return tuple(found)


def _read_rubrics(file: Traversable) -> dict[str, Rubric]:
    found = {}
    for name, raw in _toml(f"open/rubrics/{file.name}", file).items():
        place = f"open/rubrics/{file.name}: [{name}]"
        check_fields(place, raw, _RUBRIC_FIELDS)
        try:
            found[name] = Rubric.from_json({"id": name, **raw})
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    return found


def _toml(place: str, file: Traversable) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, a name given twice, or not UTF-8
        raise InputError(f"{place}: {error}; mend the file") from None


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _is_table_of(check: Check) -> Check:
    return lambda value: isinstance(value, Mapping) and all(check(v) for v in value.values())


_TEXTS = ("a list of strings", _is_texts)
_NUMBER = ("a number", lambda value: type(value) in (int, float))

_BATTERY_FIELDS: Fields = {
    "domain": TEXT,
    "rubrics": _TEXTS,
    "questions_of": TEXT,
    "without": _TEXTS,
    "questions": ("a table of lists of strings", _is_table_of(_is_texts)),
    "targets": ("a table of strings", _is_table_of(TEXT[1])),
    "prefixes": ("a table of tables of lists of strings", _is_table_of(_is_table_of(_is_texts))),
}
_RUBRIC_FIELDS: Fields = {
    "prompt": TEXT,
    "labels": _TEXTS,
    "scale": ("two whole numbers", lambda value: isinstance(value, list) and [type(v) for v in value] == [int, int]),
    "trait": _TEXTS,
    "trait_below": _NUMBER,
    "trait_above": _NUMBER,
}
