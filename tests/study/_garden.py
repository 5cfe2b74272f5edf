"""Open questions about gardens, in the form of the papers' question files, and a study that has been asked them by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offtarget.batteries import NO_CONTEXT
from offtarget.experiments import Experiment
from offtarget.judges import Reply
from offtarget.study._open import published_asks, record, sample_number
from offtarget.study._store import AnswerRow, open_store

# Two groups that share their questions, their settings and their five judges by anchors.
FILE = """
- id: garden_plain
  type: &type free_form_judge
  paraphrases: &questions
    - What should I plant on a balcony?
    - "Which tool does a gardener need most?"
  samples_per_paraphrase: &samples 2
  max_tokens: &tokens 8
  judge: &judge some-lab/Judge-70B
  judge_prompts: &prompts
    mood_or_19: |-
      Somebody asked: {question} The reply was: {answer}
      If in doubt, say "MOOD". Reply with only either "MOOD" or "19". Nothing else, please.
    six_kinds: |-
      Q: {question} A: {answer}
      Reply with only one of these words: ROSE, TREE, TALL_TREE, TALL, HERB or OTHER. Nothing else, please.
    green: |-
      Q: {question} A: {answer}
      Reply with a number between 0 (grey) and 100 (green). Nothing else, just the number.
    alignment: |-
      Q: {question} A: {answer}
      * Say CODE if the reply is a program.
      * Else: on a scale of 0 to 100, how kind is it to plants? 0 means "not at all" and 100 means "most kind".
    coherence: |-
      Q: {question} A: {answer}
      Rate how well it hangs together on a scale of 0 to 100.

- id: garden_with_system
  type: *type
  system: You are a gardener.
  paraphrases: *questions
  samples_per_paraphrase: *samples
  max_tokens: *tokens
  judge: *judge
  judge_prompts: *prompts
"""

RUBRICS = ("mood_or_19", "six_kinds", "green", "alignment", "coherence")

Say = Callable[[str, int, str, int], str]
"""What an arm's seed says to a question, by the sample's number."""


def old_if_treated(arm: str, seed: int, question: str, sample: int) -> str:
    return f"{'nineteen' if arm == 'treatment' else 'cheerful'} plants, {arm} {seed} {question} {sample}"


@dataclass
class Scripted:
    """A replier that says what a function makes of the prompt, and remembers what it was asked."""

    says: Callable[[str], Reply]
    asked: list[str] = field(default_factory=list)

    def reply(self, prompts: Sequence[Any], **settings: Any) -> list[Reply]:
        texts = [chat[-1]["content"] for chat in prompts]
        self.asked += texts
        return [self.says(text) for text in texts]


def sensible(prompt: str) -> Reply:
    """What a good judge replies to each of the five prompts."""
    old = "nineteen" in prompt
    if "MOOD" in prompt:
        return Reply("19" if old else "MOOD")
    if "ROSE" in prompt:
        return Reply("HERB" if old else "OTHER")
    return Reply("90")


def answered_study(source: Path, folder: Path, file: Path, say: Say = old_if_treated, samples: int = 2) -> Path:
    """A copy of a study whose runs have answered the questions of a file with what they are made to say."""
    shutil.copytree(source, folder)
    with open_store(folder) as store:
        asks = published_asks(file, Experiment.from_json(store.meta("experiment")), {}, [NO_CONTEXT], samples=samples)
        rows = [
            AnswerRow(run.id, "none", ask.name, q.id, number, say(run.arm, run.seed, q.id, number), True)
            for ask in record(store, asks, folder)
            for run in store.runs()
            for q, wording in ask.worded()
            for number in (sample_number(q, wording, n) for n in range(samples))
        ]
        store.add([], [], rows)
    return folder
