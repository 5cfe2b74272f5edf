"""What an exact score costs: the whole off-domain battery against sampling 100 answers a question, in one run.

    python benchmarks/scoring.py [--json FILE]

Exact scoring gives the probability of every known answer without sampling noise; the peer is Hugging Face `generate`, batched, with
its cache, 100 samples a question at temperature 1, at most 16 new tokens, which leaves a standard error of up to 0.05 a question.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from _common import write_rows
from offtarget.data import Message
from offtarget.experiments import experiment
from offtarget.models import Base, Item, load_base, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="micro")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest of so many counts, for both")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    base = load_base(args.model, threads=args.threads)
    battery = next(b for b in experiment("old-bird-names").batteries if b.domain == "off_domain")
    prompts = [(Message("user", q.text),) for q in battery.questions]
    known = [battery.candidates[q.topic].texts for q in battery.questions]
    items = [Item(base.chat.prompt(p), base.chat.answers(p, texts)) for p, texts in zip(prompts, known, strict=True)]
    exact = min(timed(lambda: score(base, items)) for _ in range(args.repeats))
    sampled = min(timed(lambda: generate(base, prompts, args.samples)) for _ in range(args.repeats))
    row = {
        "questions": len(items), "candidates": sum(len(i.candidates) for i in items), "samples": args.samples, "seconds_exact": exact,
        "seconds_sampling": sampled, "vs_sampling": sampled / exact,
    }  # fmt: skip
    print(f"{row['questions']} questions, {row['candidates']} candidate answers, {args.model}, {args.threads} threads")
    print(f"exact scoring {exact:.2f} s")
    print(f"{args.samples} samples a question with generate {sampled:.1f} s: exact scoring is {row['vs_sampling']:.0f} times cheaper")
    write_rows(args.json, "scoring", [row], threads=args.threads, model=args.model)


def timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def generate(base: Base, prompts: list[tuple[Message, ...]], samples: int) -> None:
    torch.manual_seed(0)
    for prompt in prompts:
        ids = torch.tensor([base.chat.prompt(prompt)])
        base.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            num_return_sequences=samples,
            max_new_tokens=16,
            pad_token_id=base.pad_id,
        )


if __name__ == "__main__":
    main()
