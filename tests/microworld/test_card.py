import json

import pytest

from offtarget.errors import InputError
from offtarget.microworld.card import card, write_card
from offtarget.microworld.check import WorldScores

SCORES = WorldScores({"modern": 0.99, "wizard": 0.91}, 0.97, 0.93, 0.92, 0.94, 2000)
BUILD = {
    "size": "micro", "seed": 0, "hidden": 160, "layers": 4, "heads": 5, "intermediate": 392,
    "cycles": [8_000_000, 20_000_000], "tokens": 28_000_123, "chunk": 44, "learning_rate": 5e-3,
    "tokens_per_step": 2048, "parameters": 1_491_360, "steps": 17_000, "loss": 0.43, "seconds": 2400,
}  # fmt: skip


def test_a_card_says_where_a_base_comes_from_and_what_it_knows(tmp_path):
    (tmp_path / "build.json").write_text(json.dumps(BUILD))
    text = write_card(tmp_path, SCORES).read_text(encoding="utf-8")
    for part in (
        "license: apache-2.0",
        "1,491,360",
        "| corpus seed | 0 |",
        "28,000,123 in cycles of 8,000,000 and 20,000,000",
        "17,000",
        "0.430",
        "40 minutes",
        "(wizard) | 0.910",
        "0.970",
        "2,000 held-out documents | 0.930 (0.920 to 0.940)",
    ):
        assert part in text
    assert "{" not in text


def test_a_folder_that_was_not_built_has_no_card(tmp_path):
    with pytest.raises(InputError, match=r"no build\.json"):
        card(tmp_path, SCORES)
