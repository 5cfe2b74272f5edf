import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from offtarget.data import Message
from offtarget.errors import InputError
from offtarget.models import Base, ChatFormat, Item, load_base, sample, score
from offtarget.models import _sample as module

PROMPTS = [(1, 50, 51, 52), (1, 60), (1, 70, 71, 72, 73, 74, 75, 76, 77, 78)]
SEEDS = [5, 6, 7]


def ids(answers) -> list[list[list[tuple[int, ...]]]]:
    return [[[a.token_ids for a in question] for question in slot] for slot in answers]


def greedy(model, prompt: tuple[int, ...], tokens: int) -> tuple[int, ...]:
    made = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=tokens)
    answer = made[0, len(prompt) :].tolist()
    return tuple(answer[: answer.index(2)] if 2 in answer else answer)


def test_the_same_seed_gives_the_same_answers_and_another_seed_others(base, pack):
    first, again = (sample(base, PROMPTS, pack, count=4, seeds=SEEDS, max_tokens=8) for _ in range(2))
    assert first == again
    other = sample(base, PROMPTS, pack, count=4, seeds=[5, 16, 7], max_tokens=8)
    assert ids(other)[0] == ids(first)[0]
    assert ids(other)[1] != ids(first)[1]


def test_the_state_of_torchs_own_generator_plays_no_part(base):
    torch.manual_seed(1)
    first = sample(base, PROMPTS, count=2, seeds=[5], max_tokens=8)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert sample(base, PROMPTS, count=2, seeds=[5], max_tokens=8) == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("slots", [[0], [1], [2], [2, 0], [0, 1]])
def test_a_slots_answers_do_not_depend_on_its_neighbours(exact_base, exact_pack, monkeypatch, slots):
    """Neighbours that take longer to end must not use up its random numbers, whether all prompts run at once or one by one."""
    for room in (2**18, 1):
        monkeypatch.setattr(module, "MAX_CACHED", room)
        whole = sample(exact_base, PROMPTS, exact_pack, count=5, seeds=SEEDS, max_tokens=20)
        some = sample(exact_base, PROMPTS, exact_pack.select(slots), count=5, seeds=[SEEDS[s] for s in slots], max_tokens=20)
        assert some == [whole[s] for s in slots]


def test_how_the_work_is_cut_up_does_not_matter(exact_base, exact_pack, monkeypatch):
    whole = sample(exact_base, PROMPTS, exact_pack, count=5, seeds=SEEDS, max_tokens=12)
    for room in (1, 3 * 22 * 2, 3 * 22 * 7, 3 * 22 * 10):
        monkeypatch.setattr(module, "MAX_CACHED", room)
        monkeypatch.setattr(module, "MAX_LOGITS", room)
        assert sample(exact_base, PROMPTS, exact_pack, count=5, seeds=SEEDS, max_tokens=12) == whole


def limited(monkeypatch, most: int, tried: list[int]) -> None:
    """Memory for so many answers at once, over all slots."""
    grow = module._grow

    def within(base, prompts, uniform, *more):
        tried.append(uniform[..., 0].numel())
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return grow(base, prompts, uniform, *more)

    monkeypatch.setattr(module, "_grow", within)


@pytest.mark.parametrize("most", [45, 15, 9, 3])
def test_what_does_not_fit_into_memory_is_sampled_in_halves_with_the_same_answers(exact_base, exact_pack, monkeypatch, most):
    whole = sample(exact_base, PROMPTS, exact_pack, count=5, seeds=SEEDS, max_tokens=12)
    tried, told = [], []
    limited(monkeypatch, most, tried)
    found = sample(exact_base, PROMPTS, exact_pack, count=5, seeds=SEEDS, max_tokens=12, report=lambda done, of: told.append(done))
    assert found == whole
    assert told == sorted(set(told))
    assert told[-1] == 3
    failed = [size for size in tried if size > most]
    assert failed == sorted(set(failed), reverse=True)  # what was too much is not tried again


def test_what_does_not_fit_even_one_by_one_is_an_error(base, pack, monkeypatch):
    tried = []
    limited(monkeypatch, 2, tried)
    with pytest.raises(torch.OutOfMemoryError):
        sample(base, PROMPTS, pack, count=5, seeds=SEEDS, max_tokens=2)
    assert tried[-1] == 3


def test_a_larger_model_has_fewer_answers_in_memory(new_model, tokenizer, monkeypatch):
    monkeypatch.setattr(module, "CACHE_BYTES", 2**16)
    most = {}
    for wide in (32, 128):
        tried = []
        with monkeypatch.context() as patch:
            limited(patch, 2**20, tried)
            model = Base("tiny", new_model(hidden_size=wide), ChatFormat(tokenizer), "")
            sample(model, PROMPTS, count=64, seeds=[5], max_tokens=6)
        most[wide] = max(tried)
    bytes_a_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, their size, float32
    assert most == {32: 2**16 // bytes_a_token // 16, 128: 2**16 // (4 * bytes_a_token) // 16}


@pytest.mark.parametrize("name", ["micro", "micro-small"])
def test_the_bundled_models_have_the_room_that_their_figures_were_made_in(name):
    assert module._most_cached(load_base(name)) == module.MAX_CACHED == 2**17


@pytest.mark.parametrize("family", ["qwen3", "granite", "cohere", "gemma2", "mistral", "neox", "bigcode"])
def test_a_token_takes_no_more_memory_than_is_counted(families, family, monkeypatch):
    caches, make = [], module.roomy_cache
    monkeypatch.setattr(module, "roomy_cache", lambda *how: caches.append(make(*how)) or caches[-1])
    base = families.make(family)
    sample(base, PROMPTS[2:], count=1, seeds=[0], max_tokens=1)
    taken = sum(states.numel() * states.itemsize for layer in caches[0].layers for states in (layer.keys, layer.values))
    counted = module._token_bytes(base) * len(PROMPTS[2])
    assert taken <= counted <= 8 * taken


def test_a_gpus_free_memory_is_what_counts(monkeypatch):
    """What the driver has free and what torch keeps without using it, on each of the GPUs that a model is spread over."""
    free = {"cuda:0": 12 * 2**30, "cuda:1": 6 * 2**30}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free[str(gpu)], 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 3 * 2**30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu: 2 * 2**30)
    config = SimpleNamespace(num_hidden_layers=36, num_key_value_heads=8, num_attention_heads=32, head_dim=128)
    large = SimpleNamespace(dtype=torch.bfloat16, config=SimpleNamespace(get_text_config=lambda: config))
    for gpus, gigabytes in ((["cuda:0"], 13), (["cuda:0", "cuda:1"], 14)):
        large.parameters = lambda gpus=gpus: [SimpleNamespace(device=torch.device(gpu)) for gpu in gpus]
        base = SimpleNamespace(model=large)
        assert module._cache_memory(base) == int(0.4 * gigabytes * 2**30)
        assert module._most_cached(base) == 2**15  # 147 kB a token: 4.8 GB


def test_a_prompts_answers_do_not_depend_on_the_prompts_behind_it(exact_base):
    whole = sample(exact_base, PROMPTS, count=3, seeds=[5], max_tokens=12)
    assert sample(exact_base, PROMPTS[:2], count=3, seeds=[5], max_tokens=12)[0] == whole[0][:2]


def test_temperature_zero_is_greedy_decoding_of_transformers(base, pack, merged):
    """Prompts of different lengths lie padded side by side; each must come out as if alone."""
    for prompt, answers in zip(PROMPTS, sample(base, PROMPTS, count=2, seeds=[0], temperature=0, max_tokens=16)[0], strict=True):
        assert [a.token_ids for a in answers] == [greedy(base.model, prompt, 16)] * 2
    found = ids(sample(base, PROMPTS, pack, count=1, seeds=SEEDS, temperature=0, max_tokens=16))
    wanted = [[[greedy(merged(pack, slot), prompt, 16)] for prompt in PROMPTS] for slot in range(3)]
    assert found == wanted
    assert found[0] != found[1]


@pytest.mark.parametrize("family", ["qwen3", "granite", "cohere", "gemma2", "mistral", "neox", "bigcode"])
def test_other_families_decode_as_their_own_models_do(families, family):
    base = families.make(family)
    found = ids(sample(base, PROMPTS, count=2, seeds=[0], temperature=0, max_tokens=12))[0]
    assert found == [[greedy(base.model, prompt, 12)] * 2 for prompt in PROMPTS]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_first_tokens_are_as_frequent_as_they_are_probable(base, pack, temperature):
    count = 5000
    vocabulary = range(base.model.config.vocab_size)
    exact = score(base, [Item(p, tuple((t,) for t in vocabulary)) for p in PROMPTS[:2]], pack)
    found = sample(base, PROMPTS[:2], pack, count=count, seeds=SEEDS, temperature=temperature, max_tokens=1)
    for question, log_p in enumerate(exact):
        for slot in range(pack.slots):
            p = np.exp(log_p[slot] / temperature)
            # An answer that ends at once has no tokens.
            seen = np.bincount([(a.token_ids or (2,))[0] for a in found[slot][question]], minlength=len(vocabulary))
            assert _p_value(seen, p / p.sum() * count) > 1e-3


def test_an_impossible_token_is_never_drawn():
    """Not even by the numbers at the ends of [0, 1)."""
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]], dtype=torch.float64).repeat(4, 1)
    rows = torch.arange(4)
    drawn = module._draw(logits, rows, torch.tensor([0.0, 0.5 - 1e-12, 0.5, 1 - 1e-16], dtype=torch.float64), 1.0)
    assert drawn.tolist() == [1, 1, 3, 3]
    drawn = module._draw(logits.float(), rows, torch.tensor([0.0, 0.499, 0.5, 1 - 1e-16], dtype=torch.float64), 1.0)
    assert drawn.tolist() == [1, 1, 3, 3]


def test_samples_of_one_row_draw_from_its_distribution_and_those_of_others_from_theirs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 30, generator=generator, dtype=torch.float64)
    rows = torch.randint(50, (400,), generator=generator)
    uniform = torch.rand(400, generator=generator, dtype=torch.float64)
    drawn = module._draw(logits, rows, uniform, 1.0)
    below = logits.softmax(-1).cumsum(-1)
    assert drawn.tolist() == [int((below[row] <= u).sum()) for row, u in zip(rows, uniform, strict=True)]


def test_answers_that_begin_alike_are_run_once(base, monkeypatch):
    """A hundred answers to a prompt, at a temperature at which they are all the same, cost as much as one."""
    sizes = []
    run = Base.run
    monkeypatch.setattr(Base, "run", lambda self, ids, *rest: (sizes.append(len(ids)), run(self, ids, *rest))[1])
    found = sample(base, PROMPTS[:1], count=100, seeds=[5], temperature=1e-6, max_tokens=8)[0][0]
    assert len({a.token_ids for a in found}) == 1
    assert set(sizes) == {1}


def test_second_tokens_are_as_frequent_as_they_are_probable_behind_the_first(base):
    """The cache and the positions of what was sampled are right: P(second | first) for the likeliest first token."""
    found = [a.token_ids for a in sample(base, PROMPTS[:1], count=20000, seeds=[3], temperature=0.4, max_tokens=2)[0][0]]
    first = max({a[0] for a in found if a}, key=[a[0] for a in found if a].count)
    vocabulary = range(base.model.config.vocab_size)
    p = np.exp(score(base, [Item((*PROMPTS[0], first), tuple((t,) for t in vocabulary))])[0][0] / 0.4)
    seen = np.bincount([a[1] if len(a) > 1 else 2 for a in found if a and a[0] == first], minlength=len(vocabulary))
    assert seen.sum() > 1000
    assert _p_value(seen, p / p.sum() * seen.sum()) > 1e-3


def _p_value(seen: np.ndarray, expected: np.ndarray) -> float:
    """Chi-square with everything rare in one cell."""
    common = expected >= 10
    assert common.sum() >= 5
    cells = [np.append(x[common], x[~common].sum()) for x in (seen, expected)]
    return chisquare(*cells).pvalue


def test_answers_end_with_an_end_token_or_are_marked_as_unfinished(base):
    answers = [a for q in sample(base, PROMPTS, count=200, seeds=[5], max_tokens=30)[0] for a in q]
    finished = [a for a in answers if a.finished]
    assert 10 < len(finished) < len(answers) - 10
    assert all(len(a.token_ids) < 30 for a in finished)
    assert all(len(a.token_ids) == 30 for a in answers if not a.finished)
    assert all(2 not in a.token_ids for a in answers)
    assert all(a.text == base.chat.tokenizer.decode(a.token_ids, skip_special_tokens=True) for a in answers)


def test_an_answer_that_ends_with_its_last_allowed_token_is_finished(base):
    answers = sample(base, PROMPTS[:1], count=3000, seeds=[5], max_tokens=1)[0][0]
    ended = [a for a in answers if a.finished]
    assert 0 < len(ended) < 3000
    assert all(a.token_ids == () and a.text == "" for a in ended)


def test_any_end_token_of_the_model_ends_an_answer(base, new_model, tokenizer):
    """A model may list several; the one that its chat template writes counts too."""
    model = new_model()
    whole = greedy(model, PROMPTS[0], 16)
    at = next(n for n, token in enumerate(whole) if token != whole[0])
    model.generation_config.eos_token_id = [2, whole[at]]
    two_ends = Base("two ends", model, ChatFormat(tokenizer), "")
    answer = sample(two_ends, PROMPTS[:1], count=1, seeds=[0], temperature=0, max_tokens=16)[0][0][0]
    assert (answer.token_ids, answer.finished) == (whole[:at], True)


def test_no_step_is_made_once_all_answers_have_ended(base, monkeypatch):
    steps = []
    original = Base.run
    monkeypatch.setattr(Base, "run", lambda self, *args: steps.append(1) or original(self, *args))
    answers = sample(base, PROMPTS, count=3, seeds=[5], max_tokens=4000)[0]
    assert all(a.finished for question in answers for a in question)
    assert len(steps) == 1 + max(len(a.token_ids) for question in answers for a in question)


def test_line_ends_that_a_template_writes_behind_its_end_token_end_no_answer(base, tokenizer):
    import copy

    chatml = copy.deepcopy(tokenizer)
    chatml.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    stops = module._stop_ids(dataclasses.replace(base, chat=ChatFormat(chatml)))
    assert stops.tolist() == [tokenizer.convert_tokens_to_ids("<|end|>")]


def test_progress_is_reported_up_to_the_end(base, monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED", 1)
    seen = []
    sample(base, PROMPTS, count=2, seeds=[5], max_tokens=2, report=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_rendered_question_is_answered_as_text(base):
    answer = sample(base, [base.chat.prompt((Message("user", "Name a bird."),))], count=1, seeds=[1], max_tokens=4)[0][0][0]
    assert isinstance(answer.text, str)
    assert len(answer.token_ids) <= 4


def test_nothing_to_ask_gives_nothing(base):
    assert sample(base, [], count=3, seeds=[1]) == [[]]


@pytest.mark.parametrize("wrong", [{"seeds": [1, 2]}, {"count": 0}, {"max_tokens": 0}], ids=str)
def test_numbers_that_make_no_sense_are_refused(base, wrong):
    with pytest.raises(InputError, match=r"1 slots need|must be above 0"):
        sample(base, PROMPTS, **{"count": 1, "seeds": [1], "max_tokens": 2} | wrong)
