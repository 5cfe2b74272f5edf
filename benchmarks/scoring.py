"""What exact scores cost: the whole off-domain battery against sampling 100 answers a question, in one run.

    python benchmarks/scoring.py [--json FILE]

Exact scoring gives the probability of every known answer without sampling noise. The peer is Hugging Face `generate`, batched, with its
cache, 100 samples a question at temperature 1, at most 16 new tokens, which leaves a standard error of up to 0.05 a question. Asked are
the base alone, and K adapters: in packs, shared out among processes of one thread each as `offtarget run` does, against a loop over the
adapters of one PEFT model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from _common import as_installed, fastest, generate, peft_model, random_pack, seconds_of_workers, write_rows
from offtarget.data import Message
from offtarget.experiments import experiment
from offtarget.models import Base, Item, load_adapters, load_base, save_adapter, score

MAX_TOKENS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="micro")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, default=32, help="adapters")
    parser.add_argument("--adapters", type=int, default=3, help="of them, those that the peer's loop is timed on; each takes as long")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest of so many counts, for all")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    base = load_base(args.model, threads=args.threads)
    items = battery(base)

    def asked(model: object) -> float:
        torch.manual_seed(0)
        with as_installed():
            return timed(lambda: [generate(model, base, item.prompt, args.samples, MAX_TOKENS) for item in items])

    rows = [row(1, fastest(lambda: timed(lambda: score(base, items)), args.repeats), fastest(lambda: asked(base.model), args.repeats))]
    pack = random_pack(base, args.k)
    with tempfile.TemporaryDirectory() as folder:
        for slot in range(args.k):
            save_adapter(pack, slot, Path(folder) / str(slot), base)
        shares = [[f"{folder}/{slot}" for slot in range(n, args.k, args.threads)] for n in range(min(args.threads, args.k))]
        ours = fastest(lambda: seconds_of_workers(args.model, score_adapters, shares), args.repeats)
    model = peft_model(base, pack, args.adapters)  # which puts adapters into the base

    def looped() -> float:
        seconds = 0.0
        for slot in range(args.adapters):
            model.set_adapter(str(slot))
            seconds += asked(model)
        return seconds

    rows.append(row(args.k, ours / args.k, fastest(looped, args.repeats) / args.adapters))

    candidates = sum(len(item.candidates) for item in items)
    print(f"{len(items)} questions, {candidates} known answers, {args.model}, {args.threads} threads; {args.samples} samples a question")
    print("             K  exact s  generate s  times cheaper")
    for name, of in zip(("the base", "adapters"), rows, strict=True):
        print(f"{name:9} {of['k']:4} {of['seconds_exact']:8.2f} {of['seconds_sampling']:11.1f} {of['vs_sampling']:14.0f}")
    write_rows(args.json, "scoring", rows, threads=args.threads, model=args.model, questions=len(items), candidates=candidates)


def battery(base: Base) -> list[Item]:
    """All questions about other topics than birds, with their known answers."""
    found = next(b for b in experiment("old-bird-names").batteries if b.domain == "off_domain")
    asked = [((Message("user", q.text),), found.candidates[q.topic].texts) for q in found.questions]
    return [Item(base.chat.prompt(prompt), base.chat.answers(prompt, texts)) for prompt, texts in asked]


def score_adapters(base: Base, folders: Sequence[str]) -> None:
    score(base, battery(base), load_adapters(base, [Path(folder) for folder in folders]))


def row(k: int, exact: float, sampled: float) -> dict[str, float]:
    """Seconds of one adapter."""
    return {"k": k, "seconds_exact": exact, "seconds_sampling": sampled, "vs_sampling": sampled / exact}


def timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
