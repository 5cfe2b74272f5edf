"""A language model as judge: it is told the rubric's prompt, and its reply is a label or a rating."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from offtarget.batteries import Rubric
from offtarget.errors import InputError, ModelError
from offtarget.replies import Reply

from ._answer import Answer
from ._cache import VerdictCache, reply_key
from ._label import read_label
from ._match import PrefixJudge
from ._rating import MINIMUM_MASS, read_rating
from ._reply import Chat, Replier
from ._rules import OFFTARGET, Rule
from ._verdict import Verdict


@dataclass(frozen=True)
class ModelJudge:
    """Reads answers by rubrics with a prompt. Each pair of question and answer is asked once, however often it occurs.

    Attributes:
        name: the judge model's, with its revision if there is one: verdicts and the cache tell judges apart by it.
        replier: who answers for it; None where only the cache is to be read.
        cache: where replies are kept; without, they are gone afterwards. Failed calls are made again the next time.
        rule: how replies are parsed.
        temperature: 0, so that judging again gives the same; None leaves it to the server, as some reasoning models demand.
        max_tokens: enough for a label or a number and a few words around it. A judge that thinks first needs many more.
        minimum_mass: the probability of number tokens under which a rating is a refusal.
        batch: prompts asked and written at once; what a kill may lose.

    Raises:
        InputError: a value is out of range.
    """

    name: str
    replier: Replier | None
    cache: VerdictCache | None = None
    rule: Rule = OFFTARGET
    temperature: float | None = 0.0
    max_tokens: int = 20
    minimum_mass: float = MINIMUM_MASS
    batch: int = 256

    def __post_init__(self) -> None:
        if (self.temperature or 0) < 0 or self.max_tokens < 1 or self.batch < 1:
            said = f"temperature {self.temperature}, max_tokens {self.max_tokens} and batch {self.batch}"
            raise InputError(f"judge {self.name!r} has {said}; the first must not be below 0, the others not below 1")
        if not 0 < self.minimum_mass <= 1:
            raise InputError(f"judge {self.name!r} has minimum_mass {self.minimum_mass}; give a probability, such as {MINIMUM_MASS}")

    def read(self, answers: Sequence[Answer], rubric: Rubric, report: Callable[[int, int], None] = lambda *_: None) -> list[Verdict]:
        """One verdict on each answer, in their order.

        Args:
            report: called with (prompts replied to, prompts), those in the cache not among them.

        Raises:
            InputError: the rubric has no prompt.
            ModelError: the replier broke its promise of one reply to each prompt.
            StoreError: the cache cannot be read or written.
        """
        if not rubric.needs_judge:
            raise InputError(f"rubric {rubric.id!r} has no prompt to ask {self.name!r} with; read it by prefix, text or pattern")
        keys = [self._key(rubric, a) for a in answers]
        replies = {key: reply for key, reply in self._cached(keys).items() if reply.error is None}
        asked = {key: a for key, a in zip(keys, answers, strict=True) if key not in replies}
        pending = list(asked)
        for start in range(0, len(pending), self.batch):
            some = pending[start : start + self.batch]
            new = dict(zip(some, self._ask([asked[key] for key in some], rubric), strict=True))
            if self.cache:
                self.cache.put(self.name, rubric.id, new)
            replies.update(new)
            report(start + len(some), len(pending))
        return [self._verdict(replies[key], rubric) for key in keys]

    def known(self, answers: Sequence[Answer], rubric: Rubric) -> list[Verdict | None]:
        """The verdicts that the cache has, nobody asked; None for answers that were never judged."""
        keys = [self._key(rubric, a) for a in answers]
        replies = self._cached(keys)
        return [self._verdict(replies[key], rubric) if key in replies else None for key in keys]

    def _cached(self, keys: Sequence[str]) -> dict[str, Reply]:
        return self.cache.get(list(dict.fromkeys(keys))) if self.cache else {}

    def _ask(self, answers: Sequence[Answer], rubric: Rubric) -> Sequence[Reply]:
        if self.replier is None:
            raise InputError(f"judge {self.name!r} has nobody to ask, only a cache; give it a replier")
        prompts = [rubric.prompt_for(a.wording, a.text, a.question.target) for a in answers]
        chats: list[Chat] = [[{"role": "user", "content": prompt}] for prompt in prompts]
        replies = self.replier.reply(
            chats, max_tokens=self.max_tokens, temperature=self.temperature, wants_logprobs=rubric.scale is not None
        )
        if len(replies) != len(chats):
            raise ModelError(f"judge {self.name!r} gave {len(replies)} replies to {len(chats)} prompts; it must give one to each")
        return replies

    def _verdict(self, reply: Reply, rubric: Rubric) -> Verdict:
        if rubric.scale is None:
            return read_label(reply, rubric, self.name, self.rule)
        return read_rating(reply, rubric, self.name, self.rule, self.minimum_mass)

    def _key(self, rubric: Rubric, answer: Answer) -> str:
        return reply_key((self.name, self.temperature, self.max_tokens), rubric, answer)


def read_all(answers: Sequence[Answer], rubrics: Sequence[Rubric], judge: ModelJudge) -> Mapping[str, list[Verdict]]:
    """Verdicts by rubric id; rubrics without a prompt are read by prefix."""
    return {r.id: judge.read(answers, r) if r.needs_judge else PrefixJudge().read(answers, r) for r in rubrics}
