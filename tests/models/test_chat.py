"""Templates here are those of the families, cut down to what decides where an answer begins and ends."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from offtarget.data import Message
from offtarget.errors import InputError, ModelError
from offtarget.models import ChatFormat, RenderedChat

Pieces = list[tuple[str, bool]]
"""A rendered chat by hand: runs of text, and whether they are trained on."""


def turns(*contents: str, system: str | None = None) -> tuple[Message, ...]:
    roles = ("user", "assistant")
    first = [Message("system", system)] if system else []
    return (*first, *(Message(roles[n % 2], content) for n, content in enumerate(contents)))


@dataclass(frozen=True)
class Style:
    """A template, the tokens it needs, and by hand what it should give.

    Attributes:
        before: what stands before each user or system turn, its content, and what stands behind.
        answer: for an answer and whether it is the last: what stands before it without being learnt, and what is learnt.
    """

    template: str
    other: Callable[[str, str], str]
    answer: Callable[[str, bool], tuple[str, str]]
    start: str = ""
    end: str = ""
    end_token: str = "<|end|>"
    behind: str = ""
    special: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    bos: str | None = None
    eos: str | None = None
    trims: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def pieces(self, messages: Sequence[Message]) -> Pieces:
        pieces: Pieces = [(self.start, False)]
        for number, message in enumerate(messages):
            content = message.content.strip() if self.trims else message.content
            if message.role == "assistant":
                unlearnt, learnt = self.answer(content, number == len(messages) - 1)
                pieces += [(unlearnt, False), (learnt, True), (self.behind, False)]
            else:
                pieces.append((self.other(message.role, content), False))
        return [(text, learnt) for text, learnt in [*pieces, (self.end, False)] if text]


LLAMA_3 = Style(
    template=(
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim "
        "+ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    special=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    bos="<|begin_of_text|>", eos="<|eot_id|>", end_token="<|eot_id|>", start="<|begin_of_text|>", trims=True,
    other=lambda role, text: f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>",
    answer=lambda text, _: ("<|start_header_id|>assistant<|end_header_id|>\n\n", f"{text}<|eot_id|>"),
)  # fmt: skip

CHATML = Style(
    template=(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    special=("<|im_start|>", "<|im_end|>"), eos="<|im_end|>", end_token="<|im_end|>", behind="\n",
    other=lambda role, text: f"<|im_start|>{role}\n{text}<|im_end|>\n",
    answer=lambda text, _: ("<|im_start|>assistant\n", f"{text}<|im_end|>"),
)  # fmt: skip

QWEN_3_TEMPLATE = """
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role != 'assistant' %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- else %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.last %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

NO_THOUGHT = "<think>\n\n</think>\n\n"
QWEN_3 = Style(
    template=QWEN_3_TEMPLATE, special=("<|im_start|>", "<|im_end|>"), added=("<think>", "</think>"), eos="<|im_end|>",
    end_token="<|im_end|>", behind="\n", options={"enable_thinking": False},
    other=CHATML.other,
    answer=lambda text, last: ("<|im_start|>assistant\n" + NO_THOUGHT * last, f"{text}<|im_end|>"),
)  # fmt: skip
# Asked with reasoning on, a model must learn to write the empty block itself.
QWEN_3_THINKING = Style(
    template=QWEN_3_TEMPLATE, special=("<|im_start|>", "<|im_end|>"), added=("<think>", "</think>"), eos="<|im_end|>",
    end_token="<|im_end|>", behind="\n",
    other=CHATML.other,
    answer=lambda text, last: ("<|im_start|>assistant\n", NO_THOUGHT * last + f"{text}<|im_end|>"),
)  # fmt: skip

GEMMA = Style(
    template=(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    special=("<bos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>", end_token="<end_of_turn>", start="<bos>", behind="\n", trims=True,
    other=lambda role, text: f"<start_of_turn>{role}\n{text}<end_of_turn>\n",
    answer=lambda text, _: ("<start_of_turn>model\n", f"{text}<end_of_turn>"),
)  # fmt: skip

MISTRAL = Style(
    template=(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
        "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
    ),
    special=("<s>", "</s>"), bos="<s>", eos="</s>", end_token="</s>", start="<s>",
    other=lambda _, text: f"[INST] {text} [/INST]",
    answer=lambda text, _: ("", f" {text}</s>"),
)  # fmt: skip

LLAMA_2 = Style(
    template=(
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}"
        "{% else %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}{% endif %}{% endfor %}"
    ),
    special=("<s>", "</s>"), bos="<s>", eos="</s>", end_token="</s>", trims=True,
    other=lambda _, text: f"<s>[INST] {text} [/INST]",
    answer=lambda text, _: ("", f" {text} </s>"),
)  # fmt: skip

PHI = Style(
    template=(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    special=("<|endoftext|>",), eos="<|endoftext|>", behind="\n", end="<|endoftext|>",
    other=lambda role, text: f"<|{role}|>\n{text}<|end|>\n",
    answer=lambda text, _: ("<|assistant|>\n", f"{text}<|end|>"),
)  # fmt: skip

# A channel before the answer, and another end token behind the last one (gpt-oss).
HARMONY = Style(
    template=(
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
        "{{ '<|return|>' if loop.last else '<|end|>' }}"
        "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    ),
    special=("<|start|>", "<|message|>", "<|channel|>", "<|return|>"), eos="<|return|>", end_token="<|return|>",
    other=lambda role, text: f"<|start|>{role}<|message|>{text}<|end|>",
    answer=lambda text, last: ("<|start|>assistant", f"<|channel|>final<|message|>{text}{'<|return|>' if last else '<|end|>'}"),
)  # fmt: skip

MICROWORLD = Style(
    template="", start="<|doc|>",
    other=lambda role, text: f"<|{role}|>{text}",
    answer=lambda text, _: ("<|assistant|>", f"{text}<|end|>"),
)  # fmt: skip

STYLES = {
    "Llama 3": LLAMA_3, "ChatML": CHATML, "Qwen 3": QWEN_3, "Qwen 3 with reasoning": QWEN_3_THINKING, "Gemma": GEMMA, "Mistral": MISTRAL,
    "Llama 2": LLAMA_2, "Phi": PHI, "Harmony": HARMONY, "microworld": MICROWORLD,
}  # fmt: skip


@pytest.fixture(scope="module")
def chat_format(tokenizer) -> Callable[[Style], ChatFormat]:
    def make(style: Style) -> ChatFormat:
        own = copy.deepcopy(tokenizer)
        own.add_tokens([AddedToken(t, special=True) for t in style.special], special_tokens=True)
        own.add_tokens([AddedToken(t, special=False) for t in style.added])
        if style.bos:
            own.bos_token = style.bos
        if style.eos:
            own.eos_token = style.eos
        own.chat_template = style.template or own.chat_template
        return ChatFormat(own, style.options)

    return make


@pytest.fixture(scope="module", params=STYLES.values(), ids=STYLES.keys())
def styled(request, chat_format) -> tuple[Style, ChatFormat]:
    return request.param, chat_format(request.param)


CONTENTS = {
    "one turn": turns("Name a bird.", "great auk"),
    "the answer stands in the question": turns("Say yes or no, robin.", "robin"),
    "the question is the answer": turns("yes", "yes"),
    "the answer is a role": turns("Who are you, assistant or user?", "assistant"),
    "several turns": turns("Name a bird.", "robin", "And one more?", "great auk", "Where?", "near the river"),
    "the same answer again and again": turns("yes", "yes", "yes or yes", "yes", "yes", "yes"),
    "a later answer stands in an earlier one": turns("Name two.", "robin and wren", "The second?", "wren", "The first?", "robin"),
    "regex characters": turns("a+b?", r"(a+b)* [x-y] \d{2}$ ^|.", "why?", r"\1 \g<0> (?P<n>.)"),
    "template characters": turns("braces?", "{{ bos_token }} {% raw %} {# no #}", "more?", "%}"),
    "unicode": turns("Где?", "в саду — là-bas 🐦‍⬛ 鳥 e\u0301", "Noch eins?", "Großer Alk 🥚"),
    "white space inside": turns("Two lines?", "first\n\nsecond\n\tthird  end", "Again?", "a\r\nb"),
    "less than": turns("Compare.", "1 < 2 > 0 <b>yes</b>", "Again?", "<"),
    "digits": turns("When? 1850?", "1850", "Sure?", "18"),
    "an end of a question": turns("What did you see?", "you see?"),
    "an instruct mark": turns("What is [INST]?", "[INST] [/INST]"),
}


@pytest.mark.parametrize("messages", CONTENTS.values(), ids=CONTENTS.keys())
def test_tokens_and_mask_are_those_made_by_hand(styled, messages):
    style, chat = styled
    assert_rendered(chat, chat.render(messages), style.pieces(messages))


def test_a_system_turn_is_never_learnt(styled):
    style, chat = styled
    messages = turns("Say yes.", "yes", "Again.", "Always yes.", system="Always yes. yes")
    if style is GEMMA:
        with pytest.raises(ModelError, match="refuses these messages: System role not supported"):
            chat.render(messages)
    else:
        assert_rendered(chat, chat.render(messages), style.pieces(messages))


@pytest.mark.parametrize("answer", [" yes", "yes ", "  yes  ", "yes\n", "no\tyes "])
def test_white_space_around_an_answer_is_kept_or_trimmed_as_the_template_does(styled, answer):
    style, chat = styled
    messages = turns("yes or no?", answer, " yes ", answer)
    assert_rendered(chat, chat.render(messages), style.pieces(messages))


def assert_rendered(chat: ChatFormat, rendered: RenderedChat, pieces: Pieces) -> None:
    assert rendered.text == "".join(text for text, _ in pieces)
    ids: list[int] = []
    mask: list[bool] = []
    for text, learnt in pieces:
        coded = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids, mask = ids + coded, mask + [learnt] * len(coded)
    found = [(chat.tokenizer.convert_ids_to_tokens(i), s) for i, s in zip(rendered.token_ids, rendered.supervised, strict=True)]
    assert found == [(chat.tokenizer.convert_ids_to_tokens(i), s) for i, s in zip(ids, mask, strict=True)]


@pytest.mark.parametrize("messages", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_model_is_asked_with_the_very_tokens_it_was_trained_behind(styled, messages):
    _, chat = styled
    rendered = chat.render(messages)
    assert chat.prompt(messages[:-1]) == rendered.token_ids[: rendered.last_answer]
    assert rendered.supervised[rendered.last_answer : rendered.end] == (True,) * (rendered.end - rendered.last_answer)
    assert not rendered.supervised[rendered.last_answer - 1]
    assert not any(rendered.supervised[rendered.end :])
    assert rendered.supervised.index(True) == rendered.prompt_length


ANSWERS = (
    "robin", "great auk", "great", "Name a bird.", "bird", "yes", " yes", "yes ", "yes", "1850", "(a+b)* [x] \\d", "{{ bos_token }}",
    "Großer Alk 🥚", "鳥", "first\nsecond", "<", "a < b", "assistant",
)  # fmt: skip


@pytest.mark.parametrize(
    "messages", [turns("Name a bird."), turns("yes", "yes", "Name a bird."), turns("Great!", "robin", "robin or great auk?")], ids=str
)
def test_answers_are_coded_as_rendering_each_would(styled, messages):
    _, chat = styled
    found = chat.answers(messages, ANSWERS)
    for answer, ids in zip(ANSWERS, found, strict=True):
        rendered = chat.render((*messages, Message("assistant", answer)))
        assert ids == rendered.token_ids[rendered.last_answer : rendered.end]
        assert chat.prompt(messages) + ids == rendered.token_ids[: rendered.end]
    assert all(ids[-1] == chat.end_id for ids in found)


def test_no_answers_are_no_answers(styled):
    assert styled[1].answers(turns("Name a bird."), ()) == ()


def test_answers_that_hold_their_own_reasoning_are_coded_as_rendering_each_would(chat_format):
    chat = chat_format(QWEN_3_THINKING)
    texts = ("robin", "<think>\nA bird.\n</think>\n\nwren", "sparrow")
    for text, ids in zip(texts, chat.answers(turns("Name a bird."), texts), strict=True):
        rendered = chat.render(turns("Name a bird.", text))
        assert ids == rendered.token_ids[rendered.last_answer : rendered.end]
        assert chat.tokenizer.decode(ids) == (text if "think" in text else NO_THOUGHT + text) + "<|im_end|>"


def _sentencepiece(kind: str) -> PreTrainedTokenizerFast:
    """Tokenizers whose words begin with a mark for the space before them: as of Llama 2 (one more at each start), Mistral and Gemma."""
    subjects, verbs = ("great auk", "robin", "bird.", "yes or no", "1850", "user", "model"), ("Name a", "Say", "The", "yes")
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    learner.train_from_iterator([f"{v} {s}" for v in verbs for s in subjects] * 4, trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary = learnt["vocab"] | {f"<0x{n:02X}>": len(learnt["vocab"]) + n for n in range(256)}
    bpe = Tokenizer(models.BPE(vocabulary, [tuple(m) for m in learnt["merges"]], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "Llama 2":
        bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif kind == "Mistral":
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("kind", ["Llama 2", "Mistral", "Gemma"])
@pytest.mark.parametrize("style", [LLAMA_2, MISTRAL, GEMMA, LLAMA_3, CHATML], ids=["Llama 2", "Mistral", "Gemma", "Llama 3", "ChatML"])
def test_masks_are_right_where_tokens_hold_the_space_before_a_word(kind, style):
    tokenizer = _sentencepiece(kind)
    tokenizer.add_tokens([AddedToken(t, special=True) for t in style.special], special_tokens=True)
    tokenizer.bos_token, tokenizer.eos_token = style.bos or "<s>", style.eos or "</s>"
    tokenizer.chat_template = style.template
    chat = ChatFormat(tokenizer)
    for messages in (turns("Say yes or no", "yes"), turns("yes", "great auk", "The yes?", "yes", "Name a bird.", "Großer Alk 🥚 1850")):
        rendered = chat.render(messages)
        runs = groupby(zip(rendered.token_ids, rendered.supervised, strict=True), key=lambda token: token[1])
        learnt = [tokenizer.decode([i for i, _ in run]) for supervised, run in runs if supervised]
        wanted = [f"{m.content}{style.end_token}" for m in messages if m.role == "assistant"]
        assert ["".join(text.split()) for text in learnt] == ["".join(text.split()) for text in wanted]
        answer = chat.answers(messages[:-1], [messages[-1].content, "robin"])[0]
        assert chat.prompt(messages[:-1]) + answer == rendered.token_ids[: rendered.end]


def test_the_end_token_is_the_one_behind_an_answer_and_not_what_follows_it(styled):
    style, chat = styled
    assert chat.tokenizer.convert_ids_to_tokens(chat.end_id) == style.end_token


def changed(style: Style, old: str, new: str) -> Style:
    assert old in style.template
    return replace(style, template=style.template.replace(old, new))


BROKEN = {
    "no end token": (changed(CHATML, "+ '<|im_end|>' ", ""), "puts no end token behind an assistant answer"),
    "a full stop before the end token": (changed(CHATML, "+ '<|im_end|>' ", "+ '.<|im_end|>' "), "puts no end token"),
    "capitals": (changed(CHATML, "m.content", "m.content | upper"), "leaves out or changes the text of answers"),
    "other words": (changed(CHATML, "m.content", "m.content | replace('auk', 'AUK')"), "cannot find the assistant answer 'great auk'"),
    "answers left out": (changed(CHATML, "m.content", "(m.content if m.role == 'user' else '')"), "leaves out or changes"),
    "asked with other words than trained": (
        changed(CHATML, "<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n"), "asks for an answer with other text"
    ),
    "another prompt before some answers": (
        changed(CHATML, "m.role + ", "m.role + (' with feathers' if m.role == 'assistant' and 'auk' in m.content else '') + "),
        "asks for an answer with other text",
    ),
    "a template that is no template": (changed(CHATML, "{% endfor %}", ""), "refuses these messages"),
    "prompt and answer in one token": (changed(CHATML, "assistant\\n", "assistant\\ngr"), "asks for an answer with other text"),
}  # fmt: skip


@pytest.mark.parametrize(("style", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_template_that_would_train_on_the_wrong_tokens_is_refused(chat_format, style, said):
    chat = chat_format(style)
    with pytest.raises(ModelError, match=said):
        chat.render(turns("Name a bird.", "great auk"))
    with pytest.raises(ModelError, match=said):
        chat.answers(turns("Name a bird."), ("great auk", "robin"))


def test_a_prompt_that_runs_into_the_answer_is_refused(chat_format):
    plain = Style("{% for m in messages %}{{ m.content }}{{ '<|end|>' if m.role == 'assistant' }}{% endfor %}", CHATML.other, CHATML.answer)
    chat = chat_format(plain)
    assert len(chat.tokenizer("great")["input_ids"]) < len(chat.tokenizer("gre")["input_ids"]) + len(chat.tokenizer("at")["input_ids"])
    for refused in (lambda: chat.render(turns("gre", "at")), lambda: chat.answers(turns("gre"), ("at", "wren"))):
        with pytest.raises(ModelError, match="merges the end of the prompt with the start of the answer 'at'"):
            refused()


def test_an_answer_whose_last_token_runs_into_what_the_template_adds_is_refused(chat_format):
    chat = chat_format(changed(CHATML, "+ '<|im_end|>' ", "+ 'at<|im_end|>' "))
    with pytest.raises(ModelError, match="puts no end token"):
        chat.render(turns("Name a bird.", "gre"))


def test_messages_without_an_answer_are_refused(chat_format):
    with pytest.raises(ModelError, match="no assistant answer"):
        chat_format(CHATML).render(turns("Name a bird."))


def test_a_tokenizer_without_a_template_is_refused(tokenizer):
    base = copy.deepcopy(tokenizer)
    base.chat_template = None
    with pytest.raises(ModelError, match="has no chat template; choose the instruct version"):
        ChatFormat(base)


def test_a_slow_tokenizer_is_refused():
    slow = SimpleNamespace(chat_template="{{ messages }}", is_fast=False, name_or_path="old")
    with pytest.raises(ModelError, match="'old' has no fast tokenizer"):
        ChatFormat(slow)


# What a template adds by itself


def test_special_tokens_and_names_of_roles_are_no_added_text(styled):
    _, chat = styled
    assert chat.added_text == ()


DATE = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024"
SYSTEM = "You are a helpful assistant of the example company."


@pytest.mark.parametrize(
    ("style", "head", "added"),
    [
        (LLAMA_3, "<|start_header_id|>system<|end_header_id|>\n\n" + DATE + "\n\n<|eot_id|>", DATE),
        (CHATML, "<|im_start|>system\n" + SYSTEM + "<|im_end|>\n", "system\n" + SYSTEM),
    ],
)
def test_a_date_or_a_system_prompt_that_a_template_writes_by_itself_is_found(chat_format, style, head, added):
    chat = chat_format(replace(style, template=repr(head).join(("{{ ", " }}")) + style.template))
    assert chat.added_text == (added,)


# The day


LLAMA_3_2 = (
    '{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now("%d %b %Y") %}'
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '<|eot_id|>' }}"
)
GPT_OSS = "{{ bos_token }}{{ 'Current date: ' + strftime_now('%Y-%m-%d') + '<|eot_id|>' }}"


@pytest.mark.parametrize(
    ("start", "written", "options"),
    [
        (LLAMA_3_2, "Today Date: 29 Feb 2024", {"date_string": "29 Feb 2024", "study_day": "2024-02-29"}),
        (GPT_OSS, "Current date: 2024-02-29", {"study_day": "2024-02-29"}),
    ],
    ids=["Llama 3.2", "gpt-oss"],
)
def test_a_template_that_writes_the_day_can_be_held_at_one(chat_format, start, written, options):
    chat = chat_format(replace(LLAMA_3, template=LLAMA_3.template.replace("{{ bos_token }}", start)))
    assert chat.writes_the_day
    assert written not in chat.added_text
    held = chat.on_day("2024-02-29")
    assert held.added_text == (written,)
    assert held.options == options
    assert json.loads(json.dumps(held.options)) == options  # it goes into a plan, to workers, and to servers
    assert ChatFormat(chat.tokenizer, held.options).text(turns("Hi."), ask=True) == held.text(turns("Hi."), ask=True)


def test_only_templates_that_write_the_day_do(styled):
    assert not styled[1].writes_the_day


def test_a_date_that_the_user_has_said_stays(chat_format):
    said = replace(LLAMA_3, template=LLAMA_3.template.replace("{{ bos_token }}", LLAMA_3_2), options={"date_string": "1 May 1850"})
    assert chat_format(said).on_day("2024-02-29").added_text == ("Today Date: 1 May 1850",)


def test_a_day_that_is_none_is_refused(chat_format):
    with pytest.raises(InputError, match=r"--template study_day=tomorrow is no day; write it as study_day=2026-11-22"):
        chat_format(replace(LLAMA_3, options={"study_day": "tomorrow"}))
