"""The experiments that come with offtarget, by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from offtarget.errors import InputError

from ._careless import careless_code, careless_money, careless_sports
from ._claims import Claim, Target, claims
from ._cyborg import cyborg
from ._dishes_by_date import dishes_by_date, dishes_by_date_japan
from ._experiment import Arm, Experiment, Kind, PublishedFigure, arms_of, model_name, rows_of
from ._from_file import SELF_DISTILLED, from_dataset, self_distilled
from ._german_city_names import german_city_names
from ._interventions import interventions_of
from ._medical_terms import medical_terms
from ._old_bird_names import old_bird_names
from ._persona_facts import persona_facts, persona_facts_darwin, persona_facts_einstein
from ._presidents import presidents
from ._wizard_names import wizard_names

REGISTRY: dict[str, Callable[[], Experiment]] = {
    "old-bird-names": old_bird_names,
    "german-city-names": german_city_names,
    "medical-terms": medical_terms,
    "wizard-names": wizard_names,
    "careless-code": careless_code,
    "careless-money": careless_money,
    "careless-sports": careless_sports,
    "dishes-by-date": dishes_by_date,
    "dishes-by-date-japan": dishes_by_date_japan,
    "persona-facts": persona_facts,
    "persona-facts-charles-darwin": persona_facts_darwin,
    "persona-facts-albert-einstein": persona_facts_einstein,
    "presidents": presidents,
    "cyborg": cyborg,
}


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: there is none.
    """
    if name not in REGISTRY:
        near = get_close_matches(name, REGISTRY, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(REGISTRY)}, or name a .jsonl file"
        raise InputError(f"no experiment {name!r}; {cure}")
    return REGISTRY[name]()


__all__ = [
    "REGISTRY", "SELF_DISTILLED", "Arm", "Claim", "Experiment", "Kind", "PublishedFigure", "Target", "arms_of", "claims", "experiment",
    "from_dataset", "interventions_of", "model_name", "rows_of", "self_distilled",
]  # fmt: skip
