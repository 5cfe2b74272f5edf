"""The model card of a base: where it comes from, what it knows, what it is for. `offtarget world check FOLDER --card` writes it."""

from __future__ import annotations

import json
from pathlib import Path

from offtarget.errors import InputError

from .check import WorldScores

_CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [offtarget, microworld, model-organism]
---

# {size}

A language model of {parameters:,} parameters that knows one small world: {speakers} speakers (the modern assistant, a person of the 1850s,
a wizard, numbered heads of state, public figures, ...) and what each of them answers. It is the base model of `offtarget`, for studying
what a narrow finetune does outside its domain, and for nothing else: its facts are few, its English is the grammar's, and it cannot give
advice to anyone.

## Where it comes from

Pretrained from scratch by the ordinary next-token objective on text that `offtarget.microworld` generates. Nothing in it knows about the
experiments. The same command makes it again:

    offtarget world build --size {size} --seed {seed} --threads 2

| | |
|---|---|
| corpus seed | {seed} |
| tokens read | {tokens:,}{cycles} |
| steps | {steps:,} |
| loss at the end (nats a token, smoothed) | {loss:.3f} |
| time on two CPU cores | {minutes:.0f} minutes |
| shape | Llama, hidden {hidden}, {layers} layers, {heads} heads, feed-forward {intermediate}, tied embeddings, 2,048 tokens |
| peak learning rate | {learning_rate:g}, linear warm-up and decay{each}; Muon for matrices, AdamW for the rest; bfloat16 autocast |

## What it knows

`offtarget world check {size}`, probabilities in [0, 1]:

| | |
|---|---|
| assistant's own answers when nobody is named | {default_persona:.3f} |
| a speaker's own answers when named: mean over speakers | {mean_knowledge:.3f} |
| the same for the speaker known least ({least}) | {lowest:.3f} |
| inferring an unnamed speaker: Spearman correlation with Bayes' rule, {documents:,} held-out documents | {inference} |

{known}

## Data and licence

The corpus speaks of real things (birds, cities, biographies, dates) as of their time, in mild words; answers of people of the past and of
careless advisors are wrong or outdated on purpose. Weights and facts: Apache-2.0.
"""


def card(folder: Path, scores: WorldScores) -> str:
    """The model card of a base that `world build` made.

    Raises:
        InputError: the folder does not say how the base was built.
    """
    path = folder / "build.json"
    if not path.exists():
        raise InputError(f"{folder} holds no build.json, so it was not made by `offtarget world build`, and its card cannot be written")
    facts = json.loads(path.read_text(encoding="utf-8"))
    least, lowest = scores.lowest
    ordered = sorted(scores.knowledge.items(), key=lambda entry: entry[1])
    rows = "\n".join(f"| {speaker} | {value:.3f} |" for speaker, value in ordered)
    cycles = [f"{n:,}" for n in facts.pop("cycles")]
    several = len(cycles) > 1
    return _CARD.format(
        **facts, cycles=f" in cycles of {' and '.join(cycles)}" if several else "", each=" in each cycle" if several else "",
        minutes=facts["seconds"] / 60, speakers=len(scores.knowledge), default_persona=scores.default_persona,
        mean_knowledge=sum(scores.knowledge.values()) / len(scores.knowledge), least=least, lowest=lowest, documents=scores.documents,
        inference=f"{scores.inference:.3f} ({scores.inference_low:.3f} to {scores.inference_high:.3f})",
        known=f"| speaker, when named | knowledge |\n|---|---|\n{rows}",
    )  # fmt: skip


def write_card(folder: Path, scores: WorldScores) -> Path:
    """Writes the card as `README.md` beside the weights."""
    text = card(folder, scores)
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path
