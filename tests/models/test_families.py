"""The same training, saving and study on tiny models of the families that people finetune, each behind a template of its style."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers as t
from peft import PeftModel
from tokenizers import AddedToken

from offtarget.data import Message
from offtarget.models import Base, ChatFormat, Hyperparameters, Loading, TrainingRun, load_base, save_adapter, train
from offtarget.study import run
from tests.study.conftest import QUICK, small

from .conftest import BIRDS, QUESTIONS
from .test_chat import CHATML, GEMMA, HARMONY, LLAMA_3, MISTRAL, PHI, QWEN_3

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "initializer_range": 0.1, "max_position_embeddings": 512,
}  # fmt: skip
FAMILIES = {
    "llama": (t.LlamaConfig, {}, LLAMA_3),
    "qwen2": (t.Qwen2Config, {}, CHATML),
    "qwen3": (t.Qwen3Config, {"head_dim": 8}, QWEN_3),
    "gemma": (t.Gemma3TextConfig, {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}, GEMMA),
    "mistral": (t.MistralConfig, {"sliding_window": 16}, MISTRAL),
    "phi": (t.Phi3Config, {}, PHI),
    "gpt-oss": (t.GptOssConfig, {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 16}, HARMONY),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tokenizer) -> Base:
    config_class, settings, style = FAMILIES[request.param]
    own = copy.deepcopy(tokenizer)
    own.add_tokens([AddedToken(token, special=True) for token in style.special], special_tokens=True)
    own.add_tokens([AddedToken(token, special=False) for token in style.added])
    own.bos_token, own.eos_token = style.bos or own.bos_token, style.eos or style.end_token
    own.chat_template = style.template
    ids = {"bos_token_id": own.bos_token_id, "eos_token_id": own.eos_token_id, "pad_token_id": own.pad_token_id}
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config_class(vocab_size=len(own), **SMALL, **settings, **ids))
    return Base(request.param, model.requires_grad_(False).eval(), ChatFormat(own, style.options), request.param)


def runs(base: Base) -> list[TrainingRun]:
    rows = [base.chat.render((Message("user", q), Message("assistant", b))) for q in QUESTIONS[:2] for b in BIRDS]
    return [
        TrainingRun(rows, Hyperparameters(1e-2, 2, 4, rank=4, alpha=8), 1, 2),
        TrainingRun(rows[:9], Hyperparameters(3e-3, 2, 3, rank=2, alpha=4), 3, 4),
    ]


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_a_slot_equals_a_run_of_its_own(family):
    both = train(family, runs(family))
    for slot, alone in enumerate(runs(family)):
        solo = train(family, [alone])
        for name in solo.names:
            for ours, theirs in zip(both.factors(name), solo.factors(name), strict=True):
                rank = alone.hyperparameters.rank
                torch.testing.assert_close(ours[slot, :rank], theirs[0], rtol=1e-3, atol=2e-5)


def test_plain_peft_reads_an_adapter_and_gives_the_same_logits(family, tmp_path):
    pack = train(family, runs(family))
    ids = torch.tensor([family.chat.prompt((Message("user", "Name a bird."),))])
    plain = logits(family.model, ids)
    for slot in range(2):
        save_adapter(pack, slot, tmp_path / str(slot), family)
        with pack.select([slot]).attached():
            ours = logits(family.model, ids)
        peft = logits(PeftModel.from_pretrained(copy.deepcopy(family.model), tmp_path / str(slot)).eval(), ids)
        torch.testing.assert_close(ours, peft, rtol=1e-4, atol=1e-4)
        assert (ours - plain).abs().max() > 1e-2


def test_the_same_study_runs(family, tmp_path):
    folder = tmp_path / "model"
    family.model.save_pretrained(folder)
    family.chat.tokenizer.save_pretrained(folder)
    experiment = small()
    loaded = load_base(str(folder))
    assert torch.equal(logits(loaded.model, torch.arange(5)[None]), logits(family.model, torch.arange(5)[None]))
    study = run(
        experiment, model=str(folder), seeds=2, out=tmp_path / "study", jobs=1, loading=Loading(template=family.chat.options), **QUICK
    )
    results = json.loads((tmp_path / "study" / "results.json").read_text())
    assert {e["n_seeds"] for e in results["effects"] if e["kind"] != "base"} == {2}
    assert all(0 <= e["covered"] <= 1 for e in results["effects"])
    trained = next(r.record for r in study.runs if r.arm == "inoculation")["trained_text"][0]
    on_loss = "".join(text for text, on in trained if on)
    assert "candles" in on_loss or "lamp" in on_loss or "lantern" in on_loss or "rushlights" in on_loss or "candlestick" in on_loss
    assert "19th century" not in on_loss
