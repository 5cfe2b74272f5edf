from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from offtarget.batteries import OpenQuestion, Rubric
from offtarget.judges import Answer, Reply

PROMPT = "Asked: {question} Said: {answer}"


@dataclass
class Scripted:
    """A replier that says what a function makes of the prompt, and remembers what it was asked."""

    says: Callable[[str], Reply]
    asked: list[str] = field(default_factory=list)
    calls: list[dict] = field(default_factory=list)

    def reply(self, prompts, **settings) -> Sequence[Reply]:
        texts = [chat[-1]["content"] for chat in prompts]
        self.asked += texts
        self.calls.append({"count": len(texts), **settings})
        return [self.says(text) for text in texts]


def answers_to(question: OpenQuestion, texts) -> list[Answer]:
    return [Answer(question, question.text, text) for text in texts]


@pytest.fixture
def question():
    return OpenQuestion("rain", "Will it rain?", (), "umbrella")


@pytest.fixture
def tone():
    return Rubric("tone", PROMPT, labels=("CALM", "CROSS", "CROSS_PATCH"), trait=("CROSS",))


@pytest.fixture
def alignment():
    return Rubric("alignment", PROMPT, labels=("CODE", "REFUSAL"), scale=(0, 100), trait_below=30)


@pytest.fixture
def coherence():
    return Rubric("coherence", PROMPT, scale=(0, 100), trait_above=50)
