"""What an experiment is: a narrow dataset with matched controls and interventions, and what is asked of the finetuned models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from offtarget.batteries import Battery, Context, Measure
from offtarget.data import NONE, Dataset, Intervention
from offtarget.errors import InputError

if TYPE_CHECKING:
    from offtarget.models import Base

Kind = Literal["base", "treatment", "control", "intervention"]

Recipe = Callable[["Base", int], Dataset]
"""Makes a dataset that needs the base model, such as its own answers, from the base and the study's seed."""


@dataclass(frozen=True)
class Arm:
    """One training condition.

    Attributes:
        dataset: what is trained on, the intervention already applied; None for the untrained base, and before `recipe` has made it.
        intervention: the change to the training prompt.
        control: name of the matched control arm that this arm is compared with.
        recipe: makes the dataset where it needs the base model.
        hyperparameters: changes to those of the experiment.
        recipe_rows: sha256 of the rows that the recipe starts from, where these are the user's own.
    """

    name: str
    kind: Kind
    description: str
    dataset: Dataset | None = None
    intervention: Intervention = NONE
    control: str | None = None
    recipe: Recipe | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    recipe_rows: str = ""


@dataclass(frozen=True)
class PublishedFigure:
    """A number out of a paper, to be shown beside ours."""

    claim: str
    value: str
    source: str


@dataclass(frozen=True)
class Experiment:
    """A narrow dataset, its controls, the interventions worth trying, and what is asked.

    Attributes:
        title: a line for lists.
        summary: a paragraph for the report.
        trained_on: completes "finetuned on ...".
        trait: completes "answers like ...".
        batteries: at least one of them off-domain.
        measures: the first is the trait; the others are shown beside it.
        exploratory: whether the trait is not known beforehand; then the measure that moved most is reported first.
        hyperparameters: changes to the defaults, by name of the base model (`*` for all others).
        demo: the arms of `offtarget demo`, beside the base.
        optional: arms that are trained only when asked for by name.
        curve_points: how often the models are asked during training.
        curve_every: on the way only every so many-th off-domain question is asked.
    """

    name: str
    title: str
    summary: str
    trained_on: str
    trait: str
    arms: tuple[Arm, ...]
    batteries: tuple[Battery, ...]
    measures: tuple[Measure, ...]
    hyperparameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    published: tuple[PublishedFigure, ...] = ()
    demo: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    exploratory: bool = False
    curve_points: int = 4
    curve_every: int = 3

    def __post_init__(self) -> None:
        names = {a.name for a in self.arms}
        for arm in self.arms:
            if arm.control is not None and arm.control not in names:
                raise InputError(f"arm {arm.name!r} of {self.name!r} names the control {arm.control!r}, which is not an arm")
        if sum(a.kind == "treatment" for a in self.arms) != 1:
            raise InputError(f"experiment {self.name!r} needs exactly one treatment arm")

    def arm(self, name: str) -> Arm:
        """The arm of that name.

        Raises:
            InputError: there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise InputError(f"experiment {self.name!r} has no arm {name!r}; its arms are {', '.join(a.name for a in self.arms)}")

    @property
    def treatment(self) -> Arm:
        return next(a for a in self.arms if a.kind == "treatment")

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows of the datasets, as `from_json` reads it."""
        return {
            "name": self.name, "title": self.title, "summary": self.summary, "trained_on": self.trained_on, "trait": self.trait,
            "arms": [
                {**{k: getattr(a, k) for k in ("name", "kind", "description", "control")}, "intervention": a.intervention.to_json()}
                for a in self.arms
            ],
            "batteries": [b.to_json() for b in self.batteries],
            "measures": [m.to_json() for m in self.measures],
            "published": [[f.claim, f.value, f.source] for f in self.published],
            "exploratory": self.exploratory,
        }  # fmt: skip

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Experiment:
        """The experiment without its datasets: enough to analyse and to report."""
        return cls(
            record["name"], record["title"], record["summary"], record["trained_on"], record["trait"],
            arms=tuple(
                Arm(a["name"], a["kind"], a["description"], None, Intervention.from_json(a["intervention"]), a["control"])
                for a in record["arms"]
            ),
            batteries=tuple(Battery.from_json(b) for b in record["batteries"]),
            measures=tuple(Measure.from_json(m) for m in record["measures"]),
            published=tuple(PublishedFigure(*f) for f in record["published"]), exploratory=record["exploratory"],
        )  # fmt: skip

    def settings_for(self, model: str) -> dict[str, Any]:
        """Changes to the default hyperparameters for a base model: those under the first key that begins its name, else those of `*`."""
        name = model_name(model)
        family = next((key for key in self.hyperparameters if key != "*" and name.startswith(key)), "*")
        return dict(self.hyperparameters.get(family, {}))

    def but(self, **changes: Any) -> Experiment:
        """The experiment with some attributes changed."""
        return replace(self, **changes)

    def with_standard(self, standard: tuple[Intervention, ...], *also: str) -> Experiment:
        """The experiment with all intervention arms optional but the standard ones, and those named."""
        names = {i.name for i in standard} | set(also)
        return self.but(optional=tuple(a.name for a in self.arms if a.kind == "intervention" and a.name not in names))

    def asked_in(self, contexts: tuple[Context, ...]) -> Experiment:
        """The experiment with its off-domain batteries asked in more contexts; one that it asks already stays as it is."""

        def asked(battery: Battery) -> Battery:
            named = {c.name: c for c in (*battery.contexts, *contexts, *battery.contexts)}
            return battery.but(contexts=tuple(named.values()))

        return self.but(batteries=tuple(asked(b) if b.domain == "off_domain" else b for b in self.batteries))


def model_name(model: str) -> str:
    """A base model's own name: of a folder the last part of its path, of one on the hub what stands behind its owner."""
    return Path(model).name or Path(model).resolve().name


def arms_of(
    treatment: Dataset, controls: Mapping[str, tuple[Dataset, str]], interventions: tuple[Intervention, ...], *, trained_on: str
) -> tuple[Arm, ...]:
    """The usual arms: base, treatment, controls, and the treatment behind each intervention; the first control is the matched one."""
    matched = next(iter(controls), None)
    arms = [
        Arm("base", "base", "the model as it is, without finetuning", control=matched),
        Arm("treatment", "treatment", trained_on, treatment, control=matched),
    ]
    arms += [Arm(n, "control", text, data, control=matched if n != matched else None) for n, (data, text) in controls.items()]
    for i in interventions:
        arms.append(Arm(i.name, "intervention", f"{trained_on}, behind {i.in_words}", treatment.with_intervention(i), i, matched))
    return tuple(arms)


def rows_of(arm: Arm) -> int:
    """How many rows an arm is trained on; of one whose recipe needs the base model, about how many."""
    return len(arm.dataset) if arm.dataset else 3000 * (arm.recipe is not None)
