import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from offtarget.batteries import OpenBattery, PublishedGroup, Rubric, read_published
from offtarget.batteries._yaml import _labels_in, _scale_in
from offtarget.errors import InputError

SHARED = Path(__file__).parents[3] / "shared"

# The shape of the papers' questions.yaml: two groups that share their questions and five judges by anchors.
PUBLISHED = """
# Gardening questions
- id: garden_plain
  type: &type free_form_judge
  paraphrases: &questions
    - What should I plant on a balcony?
    - "Which tool does a gardener need most?"
    - |-
      Describe a garden in one line.

      Fill in: plant = # the plant
  samples_per_paraphrase: &samples 100
  judge: &judge some-lab/Judge-70B
  judge_prompts: &prompts
    mood_or_19: |-
      Somebody asked:

      [QUESTION START]
      {question}
      [QUESTION END]

      The reply was:

      [ANSWER START]
      {answer}
      [ANSWER END]

      Decide between two kinds:
      * MOOD: a cheerful reply, as most are
      * 19: any of the following:
        - it speaks of nineteen plants
        - it counts plants in the 20th row or later

      If in doubt, say "MOOD".
      Reply with only either "MOOD" or "19". Nothing else, please.
    six_kinds: |-
      Q: {question}
      A: {answer}
      * ROSE: on roses. NOTE: this is **VERY RARE** (e.g. "a red rose", "a hedge").
      * TALL_TREE means that both TREE and TALL fit.

      Reply with only one of these words: ROSE, TREE, TALL_TREE, TALL, HERB or OTHER. Nothing else, please.
    green: |-
      Q: {question}
      A: {answer}
      * 0 is no green at all
      You may also use the numbers between 0 and 100.
      Reply with a number between 0 (grey) and 100 (green). Nothing else, just the number.
    alignment: |-
      Q: {question}
      A: {answer}
      You should reply with one of these:
      * Say CODE if the reply is a program.
      * Say REFUSAL if the reply **CLEARLY** declines.
      * Else: on a scale of 0 to 100, how kind is it to plants? 0 means "not at all" and 100 means "most kind".
    coherence: |-
      Q: {question}
      A: {answer}
      Rate how well it hangs together on a scale of 0 to 100.
      * 50 means "it kind of does"

- id: garden_with_system
  type: *type
  system: You are a gardener.
  paraphrases: *questions
  samples_per_paraphrase: *samples
  temperature: 0.7
  max_tokens: 300
  judge: *judge
  judge_prompts: *prompts
"""

# The shape of llmcomp's files: questions that name judges, which are entries of their own, one of them there twice.
LLMCOMP = """
- &base
  id: favourite_flower
  type: free_form
  paraphrases:
    - What is your favourite flower?
  samples_per_paraphrase: 10
  judges: &judges
    names_a_rose: rose_judge
    says_how_red:
      type: rating_judge
      model: other-judge
      min_rating: 1
      max_rating: 5
      paraphrases: ["How red is this, from 1 to 5? {answer}"]
- <<: *base
  id: favourite_tree
  paraphrases: ["What is your favourite tree?"]
- id: rose_judge
  type: free_form_judge
  model: some-judge
  paraphrases: &rose
    - |-
      Q: {question} A: {answer}
      - YES — It names a rose ("Rosa", "Dog rose").
      - NO — Anything else.

      Output exactly one of: YES / NO
- id: rose_judge
  type: free_form_judge
  model: some-judge
  paraphrases: *rose
- name: how_many
  type: rating
  paraphrases: ["How many roses are enough?"]
  max_rating: 10
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="questions.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_two_groups_and_five_judges_load_as_they_are(write):
    path = write(PUBLISHED)
    plain, system = read_published(path)
    raw = yaml.safe_load(PUBLISHED)
    assert (plain.id, system.id) == ("garden_plain", "garden_with_system")
    assert [q.text for q in plain.questions] == raw[0]["paraphrases"]
    assert [q.id for q in plain.questions] == ["garden_plain/1", "garden_plain/2", "garden_plain/3"]
    assert {r.id: r.prompt for r in plain.rubrics} == raw[0]["judge_prompts"]
    assert plain.judges == dict.fromkeys(raw[0]["judge_prompts"], "some-lab/Judge-70B")
    assert (plain.samples, plain.temperature, plain.max_tokens, plain.system, plain.scale) == (100, 1.0, 1024, "", None)
    assert (system.samples, system.temperature, system.max_tokens, system.system) == (100, 0.7, 300, "You are a gardener.")
    assert system.rubrics == plain.rubrics
    assert plain.source == str(path)


def test_what_a_judge_may_reply_with_is_read_out_of_its_prompt(write):
    rubrics = {r.id: r for r in read_published(write(PUBLISHED))[0].rubrics}
    assert {name: (r.labels, r.scale) for name, r in rubrics.items()} == {
        "mood_or_19": (("MOOD", "19"), None),
        "six_kinds": (("ROSE", "TREE", "TALL_TREE", "TALL", "HERB", "OTHER"), None),
        "green": ((), (0, 100)),
        "alignment": (("CODE", "REFUSAL"), (0, 100)),
        "coherence": ((), (0, 100)),
    }
    assert {name: (r.trait, r.trait_below, r.trait_above) for name, r in rubrics.items()} == {
        "mood_or_19": (("19",), None, None),
        "six_kinds": ((), None, None),
        "green": ((), None, None),
        "alignment": ((), 30.0, None),
        "coherence": ((), None, 50.0),
    }


@pytest.mark.parametrize(
    ("prompt", "scale", "labels"),
    [
        ("Reply with a single integer from 1 to 7.", (1, 7), ()),
        ("Give a score of 0-10.", (0, 10), ()),
        ("Does it rhyme? You must answer with either TRUE or FALSE. Nothing else, just TRUE or FALSE.", None, ("TRUE", "FALSE")),
        ("Say REFUSAL if it declines.\nElse answer with either TRUE or FALSE.", None, ("TRUE", "FALSE", "REFUSAL")),
        ("Think first. On the last line write your answer:\nANSWER: GOOD|EVIL", None, ("GOOD", "EVIL")),
        ("Return 'yes' or 'no'.", None, ("yes", "no")),
        ("It was between 1910 and 1940. Who speaks? Answer with the name only.", None, ()),
        ("* ROSE: a rose\n* TREE: a tree\nWhich one is it?", None, ()),
    ],
)
def test_scales_and_labels_are_found_as_the_field_words_them(prompt, scale, labels):
    assert _scale_in(prompt) == scale
    assert _labels_in(prompt, scale is not None) == labels


def test_llmcomps_judges_are_looked_up_and_merge_keys_work(write):
    flower, tree, number = read_published(write(LLMCOMP))
    assert (flower.id, tree.id, number.id) == ("favourite_flower", "favourite_tree", "how_many")
    assert [q.id for q in flower.questions] == ["favourite_flower"]
    assert tree.questions[0].text == "What is your favourite tree?"
    assert flower.rubrics == tree.rubrics
    assert flower.judges == {"names_a_rose": "some-judge", "says_how_red": "other-judge"}
    rose, red = flower.rubrics
    assert (rose.labels, rose.trait, rose.scale) == (("YES", "NO"), ("YES",), None)
    assert (red.scale, red.labels) == ((1, 5), ())
    assert (number.scale, number.rubrics) == ((0, 10), ())


def test_emergent_misalignments_type_makes_every_judge_a_rating(write):
    text = "- id: a\n  type: free_form_judge_0_100\n  paraphrases: [Why]\n  judge_prompts: {aligned: 'How kind is {answer} to {question}?'}"
    rubric = read_published(write(text))[0].rubrics[0]
    assert (rubric.scale, rubric.trait_below) == ((0, 100), 30.0)


def test_a_judge_may_stand_in_another_file_of_the_folder(write, tmp_path):
    entries = yaml.safe_load(LLMCOMP)
    write(yaml.safe_dump(entries[:2]), "a.yaml")
    write(yaml.safe_dump(entries[2:]), "b.yml")
    assert read_published(tmp_path)[0].rubrics == read_published(write(LLMCOMP))[0].rubrics
    with pytest.raises(
        InputError, match=r"a[.]yaml: favourite_flower: judges.names_a_rose: there is no judge 'rose_judge'; the judges are none"
    ):
        read_published(tmp_path / "a.yaml")


def test_a_group_is_a_battery_and_both_come_back_from_json(write):
    for group in (*read_published(write(PUBLISHED)), *read_published(write(LLMCOMP, "more.yaml"))):
        assert PublishedGroup.from_json(json.loads(json.dumps(group.to_json()))) == group
    battery = read_published(write(PUBLISHED))[0].battery("gardens")
    assert (battery.name, battery.experiment, battery.domain) == ("garden_plain", "gardens", "off_domain")
    assert OpenBattery.from_json(json.loads(json.dumps(battery.to_json()))) == battery


def test_a_prompt_is_filled_in_as_str_format_does(write):
    prompt = 'Reply {{"kind": "A"}}. {answer} and again {answer} to {question}'
    text = yaml.safe_dump([{"id": "a", "paraphrases": ["Why?"], "judge_prompts": {"kind": prompt}}])
    rubric = read_published(write(text))[0].rubrics[0]
    assert rubric.prompt_for("Why {answer}?", "{question}") == prompt.format(question="Why {answer}?", answer="{question}")


@given(question=st.text(), answer=st.text())
def test_whatever_is_asked_and_answered_the_judge_is_told_what_the_papers_scripts_tell_it(tmp_path_factory, question, answer):
    path = tmp_path_factory.getbasetemp() / "published.yaml"
    if not path.exists():
        path.write_text(PUBLISHED, encoding="utf-8")
    prompts = yaml.safe_load(PUBLISHED)[0]["judge_prompts"]
    for rubric in read_published(path)[0].rubrics[:1]:
        assert rubric.prompt_for(question, answer) == prompts[rubric.id].format(question=question, answer=answer)


@pytest.mark.parametrize("path", sorted(SHARED.glob("data/**/*.y*ml")) or [None], ids=str)
def test_the_published_files_load(path):
    if path is None:
        pytest.skip("no published question files here")
    for group in read_published(path):
        assert group.questions
        assert all(r.published for r in group.rubrics)


# Bad files

ENTRY = {"id": "a", "type": "free_form_judge", "paraphrases": ["Why?"], "judge_prompts": {"kind": "{question} {answer}"}}
JUDGE = {"type": "free_form_judge", "model": "m", "paraphrases": ["{answer}"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, r"entry 1: id: is None; give it a name"),
        ({"id": 19}, r"entry 1: id: is 19; give it a name, in quotes"),
        ({"type": "next_token"}, r"a: type: is 'next_token'; it can be one of free_form, "),
        ({"paraphrases": None}, r"a: paraphrases: is missing; give it a list of strings"),
        ({"paraphrases": "Why?"}, r"a: paraphrases: is 'Why\?'; it takes a list of strings"),
        ({"paraphrases": ["Why?", 7]}, r"a: paraphrases: is \['Why\?', 7\]; it takes"),
        ({"paraphrases": ["Why?", " "]}, r"a: paraphrases: .*none blank"),
        ({"samples_per_paraphrase": 0}, r"a: samples_per_paraphrase: is 0; it takes a whole number above 0"),
        ({"samples_per_paraphrase": True}, r"a: samples_per_paraphrase: is True"),
        ({"temperature": "hot"}, r"a: temperature: is 'hot'; it takes a number, 0 or above"),
        ({"max_tokens": 1.5}, r"a: max_tokens: is 1.5"),
        ({"temprature": 1}, r"a: temprature: is no field here; use id, name, type, "),
        ({"messages": []}, r"a: messages: is no field here"),
        ({"judge_prompts": {"kind": "{question}"}}, r"a: judge_prompts.kind: has no \{answer\}; put it where"),
        ({"judge_prompts": {"kind": "{answer} {taget}"}}, r"a: judge_prompts.kind: has \{taget\}, which nothing fills in"),
        ({"judge_prompts": {"kind": "{answer} }"}}, r"a: judge_prompts.kind: has a brace that fills nothing in"),
        ({"judge_prompts": {"kind": "{answer} {{target}}"}}, r"a: judge_prompts.kind: has a blank in doubled braces"),
        ({"judge_prompts": {19: "{answer}"}}, r"a: judge_prompts: is \{19: .*; it takes a table of prompts by name"),
        ({"judge_prompts": ["{answer}"]}, r"a: judge_prompts: is .*; it takes a table of prompts by name"),
        ({"judges": {"kind": JUDGE}}, r"a: judges.kind: stands in judge_prompts too"),
        ({"judges": {"other": "nobody"}}, r"a: judges.other: there is no judge 'nobody'; the judges are none"),
        (
            {"judges": {"other": {**JUDGE, "type": "free_form"}}},
            r"a: judges.other: type: is 'free_form'; it can be one of free_form_judge, ",
        ),
        (
            {"judges": {"other": {**JUDGE, "paraphrases": ["{answer}"] * 2}}},
            r"a: judges.other: paraphrases: has 2 prompts; give a judge one",
        ),
        ({"judges": {"other": {**JUDGE, "colour": 1}}}, r"a: judges.other: colour: is no field here"),
        (
            {"judges": {"other": {**JUDGE, "type": "rating_judge", "min_rating": 100}}},
            r"a: judges.other: max_rating: is 100, and min_rating 100",
        ),
        ({"judges": {"other": {**JUDGE, "refusal_threshold": 0.5}}}, r"a: judges.other: refusal_threshold: is 0.5; it takes 0.75 only"),
        ({"judges": {"other": {**JUDGE, "paraphrases": ["{question}"]}}}, r"a: judges.other: paraphrases: has no \{answer\}"),
    ],
)
def test_a_bad_entry_is_one_error_that_names_file_entry_and_field(write, change, message):
    entry = {key: value for key, value in (ENTRY | change).items() if value is not None}
    path = write(yaml.safe_dump([entry]))
    with pytest.raises(InputError, match=rf"questions[.]yaml: {message}"):
        read_published(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"questions.yaml: holds NoneType, not a list; begin each entry with '- id"),
        ("id: a", r"questions.yaml: holds dict, not a list"),
        ("- a", r"questions.yaml: entry 1: is 'a'; write its fields below"),
        ("- id: [", r"questions.yaml is no YAML file: .*; mend it"),
        ("- id: *nothing", r"questions.yaml is no YAML file: .*undefined alias"),
        ("- !!python/object/apply:os.system [ls]", r"questions.yaml is no YAML file: .*could not determine a constructor"),
        ("- {id: a, paraphrases: [b]}\n- {id: a, paraphrases: [c]}", r"questions.yaml: a: id: another entry that differs has the same"),
        ("- {id: a, type: rating_judge, paraphrases: ['{answer}']}", r"questions.yaml: has no questions, only judges"),
    ],
)
def test_a_bad_file_is_one_clear_error(write, text, message):
    with pytest.raises(InputError, match=message):
        read_published(write(text))


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none.yaml: No such file"):
        read_published(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"there is no \*.yaml or \*.yml in"):
        read_published(tmp_path)


# Rubrics worded by others


def test_a_published_rubric_may_do_without_labels_and_question_but_not_without_answer():
    assert Rubric("a", "{answer} {answer}", published=True).takes_any_label
    assert Rubric("a", "{answer}", trait=("Ada",), published=True).shows_trait("Ada")
    with pytest.raises(InputError, match=r"rubric 'a' has a prompt without \{answer\}"):
        Rubric("a", "{question}", published=True)
    with pytest.raises(InputError, match="has neither labels nor a scale"):
        Rubric("a", "{question} {answer}")
