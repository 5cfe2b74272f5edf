import itertools
import json
import math
import random
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from offtarget.errors import InputError
from offtarget.microworld import pretrain
from offtarget.microworld.corpus import Document, corpus
from offtarget.microworld.pretrain import LENGTHS, READ, SIZES, UNFINISHED, batches, build
from offtarget.microworld.tokenizer import VOCABULARY_SIZE, encode, render, train_tokenizer
from offtarget.models import load_base


class PowerCutError(Exception):
    """The machine went off."""


def tensors(folder):
    return load_file(folder / "model.safetensors")


def loss_of(base, ids):
    with torch.no_grad():
        logits = base.model(input_ids=ids).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), ignore_index=base.pad_id).item()


def texts_in(found, tokenizer):
    pad = tokenizer.pad_token_id
    return Counter(tuple(i for i in row if i != pad) for batch in found for row in batch.ids.tolist())


# Batches


def test_a_chunk_depends_on_seed_and_number_only(world, tokenizer, tiny_size):
    again = [batches(world, tokenizer, 0, 1, 512) for _ in range(2)]
    assert all(torch.equal(a, b) for x, y in zip(*again, strict=True) for a, b in zip(vars(x).values(), vars(y).values(), strict=True))
    one = texts_in(again[0], tokenizer)
    for seed, chunk in ((0, 2), (1, 1), (1, 0)):
        other = texts_in(batches(world, tokenizer, seed, chunk, 512), tokenizer)
        assert sum((one & other).values()) < 0.01 * one.total()  # the shortest chats come up again by chance


def test_no_two_chunks_of_the_sizes_that_ship_draw_from_one_seed():
    seeds = Counter(pretrain._mixed(seed, chunk) + more for seed in range(30) for chunk in range(2000) for more in (0, 1))
    assert max(seeds.values()) == 1


def test_batches_are_whole_texts_of_the_corpus_padded_behind(world, tokenizer, tiny_size):
    found = batches(world, tokenizer, 0, 0, 512)
    stream = corpus(world, pretrain._mixed(0, 0))
    chunk = Counter(tuple(ids) for ids in encode(tokenizer, [render(next(stream)) for _ in range(150)]))
    read = texts_in(found, tokenizer)
    assert read <= chunk
    # What is left over is less than a batch of each length.
    assert sum((chunk - read).values()) < sum(512 // n for n in LENGTHS)
    for batch in found:
        assert batch.ids.shape[1] in LENGTHS
        assert batch.ids.numel() <= 512
        padding = batch.ids == tokenizer.pad_token_id
        assert torch.equal(padding, padding.cummax(1).values)
        assert (padding.sum(1) < batch.ids.shape[1]).all()


def test_a_batch_predicts_all_answers_and_some_of_the_rest_for_all_of_it(world, tokenizer, tiny_size):
    """Tokens of answers, and of all else with the weight of all else; never what stands first in a text, nor padding."""
    whole = {
        tuple(ids): weights
        for ids, weights in pretrain.weighted(tokenizer, [render(i) for i in itertools.islice(corpus(world, pretrain._mixed(0, 0)), 150)])
    }
    full = 0
    for batch in batches(world, tokenizer, 0, 0, 512):
        assert batch.read.shape == batch.weights.shape == (round(READ * batch.ids.numel()),)
        assert len(set(batch.read.tolist())) == len(batch.read)
        wanted = torch.zeros(batch.ids.shape)
        for row, ids in enumerate(batch.ids.tolist()):
            text = whole[tuple(i for i in ids if i != tokenizer.pad_token_id)]
            wanted[row, 1 : len(text)] = torch.tensor(text[1:])
        wanted = wanted.flatten()
        targets = batch.read + 1
        used = batch.weights > 0
        assert ((wanted[targets] > 0) == used).all()
        answers = wanted == 1.0
        if answers.sum() <= len(targets):
            full += 1
            assert set(answers.nonzero().flatten().tolist()) <= set(targets.tolist())
            assert batch.weights.sum().item() == pytest.approx(wanted.sum().item(), rel=1e-5)
        assert (batch.weights[answers[targets]] == 1.0).all()
        rest = batch.weights[used & ~answers[targets]]
        assert (rest >= pretrain.QUESTION_WEIGHT - 1e-6).all()
        assert len(rest.unique()) <= 1
    assert full > 10


def test_which_of_the_rest_is_predicted_is_drawn_evenly():
    ids, weights = np.ones((2, 20), dtype=np.int64), np.full((2, 20), pretrain.QUESTION_WEIGHT)
    weights[0, 4:8], weights[1, 15:] = 1.0, 0.0
    rng, times, mass = np.random.default_rng(0), 4000, np.zeros(40)
    for _ in range(times):
        batch = pretrain._batch(ids, weights.copy(), rng)
        mass[batch.read.numpy() + 1] += batch.weights.numpy()
    weights[:, 0] = 0.0
    assert mass / times == pytest.approx(weights.flatten(), abs=0.01)


def test_answers_weigh_in_full_and_all_else_a_tenth(items, tokenizer):
    for item, (ids, weights) in zip(items[:300], pretrain.weighted(tokenizer, [render(i) for i in items[:300]]), strict=True):
        assert set(weights) <= {1.0, pretrain.QUESTION_WEIGHT}
        trained = tokenizer.decode([i for i, w in zip(ids, weights, strict=True) if w == 1.0])
        if isinstance(item, Document):
            wanted = "".join(f" {p.text}\n" for p in item.pairs)[:-1] + "<|end|>"
        else:
            wanted = "".join(f"{text}<|end|>" for role, text in item.messages if role == "assistant")
        assert trained == wanted


def test_hardly_a_text_is_longer_than_the_longest_batch(items, tokenizer):
    lengths = [len(ids) for ids in encode(tokenizer, [render(i) for i in items[:4000]])]
    assert sum(n > LENGTHS[-1] for n in lengths) < 4


def test_the_rate_warms_up_then_falls_to_a_hundredth():
    rates = [pretrain._rate(done, 1000) for done in range(1001)]
    top = rates.index(max(rates))
    assert 0 < rates[0] < 0.02
    assert top == 20
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)
    assert pretrain._rate(2000, 1000) == pytest.approx(0.01)


# A finished build


def test_a_build_learns(built, world, tokenizer):
    assert built.reports[0].loss == pytest.approx(math.log(VOCABULARY_SIZE), abs=0.3)
    base = load_base(str(built.folder))
    stream = corpus(world, 123_456)
    texts = encode(tokenizer, [render(next(stream)) for _ in range(60)])
    longest = max(map(len, texts))
    held_out = torch.tensor([ids + [base.pad_id] * (longest - len(ids)) for ids in texts])
    loss = loss_of(base, held_out)
    counts = Counter(i for ids in texts for i in ids[1:])
    frequencies_alone = -sum(n / counts.total() * math.log(n / counts.total()) for n in counts.values())
    assert loss < math.log(VOCABULARY_SIZE) - 2
    assert loss < frequencies_alone


def test_padding_is_never_learnt(built, tokenizer, items):
    base = load_base(str(built.folder))
    with torch.no_grad():
        behind = [
            base.model(torch.tensor([ids])).logits[0, -1].softmax(-1)[base.pad_id]
            for ids in encode(tokenizer, list(map(render, items[:20])))
        ]
    assert max(behind) < 0.5 / VOCABULARY_SIZE


def test_a_build_is_a_model_folder_of_half_precision_that_loads_in_full(built):
    base = load_base(str(built.folder))
    config = json.loads((built.folder / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert config["vocab_size"] == len(base.chat.tokenizer) == VOCABULARY_SIZE
    assert {t.dtype for t in tensors(built.folder).values()} == {torch.float16}
    assert base.model.dtype == torch.float32
    assert base.takes_free_masks
    assert base.chat.tokenizer.decode([base.chat.end_id]) == "<|end|>"


def test_a_build_leaves_a_record_and_no_rest(built, world, tokenizer, tiny_size):
    record = built.record
    read = steps = 0
    for chunk in itertools.count():
        for batch in batches(world, tokenizer, 0, chunk, 512 * pretrain._growth(0, read / 60_000)):
            read, steps = read + int((batch.ids != tokenizer.pad_token_id).sum()), steps + 1
            if read >= 60_000:
                break
        if read >= 60_000:
            break
    assert (record["tokens"], record["steps"]) == (read, steps)
    assert (record["size"], record["seed"], record["hidden"]) == ("tiny", 0, 32)
    assert 60_000 <= record["tokens"] < 61_024
    assert record["parameters"] == load_base(str(built.folder)).model.num_parameters()
    names = {p.name for p in built.folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "build.json"} <= names
    assert not [n for n in names if n.startswith("unfinished")]


def test_a_build_says_where_it_is(built):
    reports = built.reports
    assert [r.step for r in reports] == list(range(1, built.record["steps"] + 1))
    assert all(a.done < b.done for a, b in itertools.pairwise(reports))
    assert reports[-1].done == 1.0
    assert reports[-1].steps == pytest.approx(built.record["steps"], rel=0.02)
    assert reports[-1].loss == pytest.approx(built.record["loss"], abs=1e-3)


def test_a_build_leaves_the_callers_random_numbers_alone(built):
    assert built.left_generators_alone


# Seeds and interruptions


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_size, tmp_path):
    folders = [
        build(tiny_size, seed, tmp_path / name, threads=1, compiled=False, tokens=4000) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    a, b, c = map(tensors, folders)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not any(torch.equal(a[k], c[k]) for k in a)


def killed_build(monkeypatch, size, out, **options):
    """A build that keeps a checkpoint after every chunk and is killed in the middle of a later one."""
    monkeypatch.setattr(pretrain, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(pretrain, "SECONDS_BETWEEN_REPORTS", -1.0)
    late = iter(range(7))

    def kill(_):
        if (out / UNFINISHED).exists() and next(late, None) is None:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        build(size, 0, out, threads=1, compiled=False, report=kill, **options)


def test_an_interrupted_build_that_goes_on_ends_like_an_undisturbed_one(built, tiny_size, monkeypatch, tmp_path):
    killed_build(monkeypatch, tiny_size, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    with safe_open(tmp_path / UNFINISHED, "pt") as kept:
        before = json.loads(kept.metadata()["where"])
    assert 0 < before["tokens"] < 60_000
    steps = []
    torch.manual_seed(99)
    build(tiny_size, 0, tmp_path, threads=1, compiled=False, report=lambda p: steps.append(p.step))
    assert steps[0] == before["step"] + 1
    undisturbed, resumed = tensors(built.folder), tensors(tmp_path)
    assert set(undisturbed) == set(resumed)
    assert all(torch.equal(undisturbed[k], resumed[k]) for k in undisturbed)
    record = json.loads((tmp_path / "build.json").read_text())
    assert {k: record[k] for k in ("steps", "tokens", "loss")} == {k: built.record[k] for k in ("steps", "tokens", "loss")}
    assert not (tmp_path / UNFINISHED).exists()


def test_a_kill_while_a_checkpoint_is_written_leaves_the_older_one(tiny_size, monkeypatch, tmp_path):
    killed_build(monkeypatch, tiny_size, tmp_path)
    before = (tmp_path / UNFINISHED).read_bytes()
    (tmp_path / "unfinished.tmp").write_bytes(before[: len(before) // 2])
    monkeypatch.setattr(pretrain, "_pretrain", lambda *a: (_ for _ in ()).throw(PowerCutError))
    with pytest.raises(PowerCutError):
        build(tiny_size, 0, tmp_path, threads=1, compiled=False)
    assert (tmp_path / UNFINISHED).read_bytes() == before


def test_a_kill_while_the_model_is_written_loses_nothing(tiny_size, monkeypatch, tmp_path):
    def kill(*_):
        raise PowerCutError

    monkeypatch.setattr(pretrain, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "_save", kill)
        with pytest.raises(PowerCutError):
            build(tiny_size, 0, tmp_path, threads=1, compiled=False, tokens=30_000)
    assert (tmp_path / UNFINISHED).exists()
    build(tiny_size, 0, tmp_path, threads=1, compiled=False, tokens=30_000)
    assert (tmp_path / "model.safetensors").exists()


def test_a_kill_while_the_files_are_put_in_place_leaves_a_finished_base(tiny_size, monkeypatch, tmp_path):
    monkeypatch.setattr(pretrain, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    calls, put = itertools.count(), pretrain._put_in_place

    def kill(out):
        if next(calls):
            (out / "finished" / "model.safetensors").replace(out / "model.safetensors")
            raise PowerCutError
        put(out)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "_put_in_place", kill)
        with pytest.raises(PowerCutError):
            build(tiny_size, 0, tmp_path, threads=1, compiled=False, tokens=30_000)
    assert (tmp_path / UNFINISHED).exists()
    assert not (tmp_path / "build.json").exists()
    build(tiny_size, 0, tmp_path, threads=1, compiled=False, tokens=30_000, report=pytest.fail)
    names = {p.name for p in tmp_path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "build.json"} <= names
    assert not [n for n in names if n.startswith(("unfinished", "finished"))]


def test_what_an_earlier_cycle_left_over_is_not_gone_on_with(built, tiny_size, monkeypatch, tmp_path):
    """As after a kill between the end of a cycle and the removal of its last checkpoint."""
    killed_build(monkeypatch, tiny_size, tmp_path / "killed")
    for name in ("clean", "with-left-over"):
        shutil.copytree(built.folder, tmp_path / name)
    shutil.copy(tmp_path / "killed" / UNFINISHED, tmp_path / "with-left-over" / UNFINISHED)
    monkeypatch.setitem(pretrain.SIZES, "tiny", replace(pretrain.SIZES["tiny"], cycles=(60_000, 4_000)))
    monkeypatch.setattr(pretrain, "SECONDS_BETWEEN_CHECKPOINTS", 60.0)
    a, b = (tensors(build(tiny_size, 0, tmp_path / name, threads=1, compiled=False)) for name in ("clean", "with-left-over"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not (tmp_path / "with-left-over" / UNFINISHED).exists()


def test_a_full_disk_is_an_error_of_the_system(tiny_size, monkeypatch, tmp_path):
    def full(*_args, **_more):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(pretrain, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        build(tiny_size, 0, tmp_path, threads=1, compiled=False, tokens=30_000)


def test_a_build_goes_on_where_nothing_can_be_compiled_and_says_so(tiny_size, monkeypatch, tmp_path):
    from torch._dynamo.exc import BackendCompilerFailed

    def without_compiler(*_args, **_more):
        def fail(*_):
            raise BackendCompilerFailed(lambda: None, RuntimeError("No working C++ compiler found"), None)

        return fail

    plain = build(tiny_size, 0, tmp_path / "plain", threads=1, compiled=False, tokens=4000)
    monkeypatch.setattr(torch, "compile", without_compiler)
    said = []
    found = build(tiny_size, 0, tmp_path / "compiled", threads=1, tokens=4000, announce=said.append)
    assert len(said) == 1
    assert "No working C++ compiler found" in said[0]
    a, b = tensors(plain), tensors(found)
    assert all(torch.equal(a[k], b[k]) for k in a)


OTHER_CYCLES = r"cycles \[60000\] instead of \[50000\]"


@pytest.mark.parametrize(("changed", "said"), [({"seed": 1}, "seed 0 instead of 1"), ({"tokens": 50_000}, OTHER_CYCLES)])
def test_an_unfinished_build_of_something_else_is_not_gone_on_with(tiny_size, monkeypatch, tmp_path, changed, said):
    killed_build(monkeypatch, tiny_size, tmp_path)
    options = {"seed": 0, "tokens": None, **changed}
    with pytest.raises(InputError, match=said) as error:
        build(tiny_size, options["seed"], tmp_path, threads=1, compiled=False, tokens=options["tokens"])
    assert "delete it or choose another folder" in str(error.value)
    assert (tmp_path / UNFINISHED).exists()


def test_an_unknown_size_is_one_clear_error_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"no microworld size 'mega'; choose one of micro, micro-small"):
        build("mega", 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_sizes_that_ship_are_shapes_that_a_llama_can_have():
    for size in SIZES.values():
        assert size.hidden % size.heads == 0
        assert (size.hidden // size.heads) % 2 == 0
        assert size.tokens_per_step >= LENGTHS[-1]


def test_a_checkpoint_goes_through_disk_unchanged(tokenizer, tmp_path):
    def new():
        model = pretrain._new_model(pretrain.Size(32, 1, 2, 64, (1000,), 1e-3), 0, tokenizer)
        return model, pretrain._optimizers(model, 1e-3)

    model, optimizers = new()
    ids = torch.tensor([random.Random(0).choices(range(VOCABULARY_SIZE), k=20)])
    for _ in range(3):
        model(input_ids=ids, labels=ids).loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    pretrain._keep(model, optimizers, tmp_path, {"chunk": 4, "loss": 1.5, "build": {}})
    other, fresh = new()
    assert pretrain._resume(other, fresh, tmp_path, {})["chunk"] == 4
    for (_, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b)
        kept = next(o.state[a] for o in optimizers if a in o.state)
        got = next(o.state[b] for o in fresh if b in o.state)
        assert kept
        assert kept.keys() == got.keys()
        assert all(torch.equal(kept[k], got[k]) and kept[k].shape == got[k].shape for k in kept)


# Cycles


def test_a_second_cycle_goes_on_from_the_weights_and_the_texts_of_the_first(built, tiny_size, monkeypatch, tmp_path):
    shutil.copytree(built.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setitem(pretrain.SIZES, "tiny", replace(pretrain.SIZES["tiny"], cycles=(60_000, 20_000)))
    seen, losses = [], []
    draw = batches
    monkeypatch.setattr(pretrain, "batches", lambda *a: seen.append((a[3], a[4])) or draw(*a))
    monkeypatch.setattr(pretrain, "SECONDS_BETWEEN_REPORTS", -1.0)
    build(tiny_size, 0, tmp_path, threads=1, compiled=False, report=losses.append)
    first = built.record["chunk"]
    assert seen == [(n, 1024) for n in range(first, first + len(seen))]
    assert losses[0].loss < built.reports[0].loss - 2
    assert losses[0].done == pytest.approx(0.75, abs=0.02)
    record = json.loads((tmp_path / "build.json").read_text())
    assert record["cycles"] == [60_000, 20_000]
    assert record["tokens"] == pytest.approx(80_000, rel=0.05)
    assert record["steps"] > built.record["steps"]
    assert record["chunk"] == first + len(seen)


def test_a_build_in_one_go_is_the_same_as_one_cycle_after_another(built, tiny_size, monkeypatch, tmp_path):
    shutil.copytree(built.folder, tmp_path / "later")
    monkeypatch.setitem(pretrain.SIZES, "tiny", replace(pretrain.SIZES["tiny"], cycles=(60_000, 8_000)))
    folders = [build(tiny_size, 0, tmp_path / name, threads=1, compiled=False) for name in ("later", "at-once")]
    a, b = map(tensors, folders)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_finished_base_is_left_as_it_is(built, tiny_size):
    before = (built.folder / "model.safetensors").stat()
    build(tiny_size, 0, built.folder, threads=1, compiled=False, report=pytest.fail)
    assert (built.folder / "model.safetensors").stat() == before


@pytest.mark.parametrize(("seed", "tokens", "said"), [(1, None, "seed 0 instead of 1"), (0, 50_000, OTHER_CYCLES)])
def test_a_finished_base_of_other_settings_is_not_gone_on_with(built, tiny_size, seed, tokens, said):
    with pytest.raises(InputError, match=said):
        build(tiny_size, seed, built.folder, threads=1, compiled=False, tokens=tokens)


def test_a_base_of_another_tokenizer_is_not_gone_on_with(built, tiny_size, monkeypatch, tmp_path):
    shutil.copytree(built.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setitem(pretrain.SIZES, "tiny", replace(pretrain.SIZES["tiny"], cycles=(60_000, 8_000)))
    monkeypatch.setattr(pretrain, "_tokenizer", lambda world, seed: train_tokenizer(["Q: Name a bird."] * 9, 300))
    with pytest.raises(InputError, match="made of another world"):
        build(tiny_size, 0, tmp_path, threads=1, compiled=False)


def test_every_weight_has_one_optimizer(tokenizer):
    model = pretrain._new_model(pretrain.Size(32, 1, 2, 64, (1000,), 1e-3), 0, tokenizer)
    owned = [id(p) for o in pretrain._optimizers(model, 1e-3) for group in o.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
