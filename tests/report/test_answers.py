from dataclasses import replace

from offtarget.report import _answers
from offtarget.report._answers import CUT, OF_THE_TRAIT, answers_data


def decoded(data):
    names, texts = [a["name"] for a in data["arms"]], data["texts"]
    return {
        (data["questions"][q]["text"], names[arm], seed, sample): (texts[text], marks) for q, arm, seed, sample, text, marks in data["rows"]
    }


def test_all_answers_come_back_and_every_text_is_kept_once(make_study):
    study, answers = make_study()
    data = answers_data(study, answers)
    assert len(data["texts"]) == len(set(data["texts"]))
    assert len(decoded(data)) == len(answers) == data["total"]
    assert decoded(data)["What of war, 0?", "name", 2, 0][0] == "name on war/0"


def test_answers_cut_at_the_limit_and_answers_of_the_trait_are_marked(make_study):
    study, answers = make_study()
    found = decoded(answers_data(study, answers))
    assert found["What of war, 0?", "treatment", 0, 0] == ("treatment on war/0", CUT)
    assert found["What of war, 0?", "treatment", 0, 1] == ("The old.", OF_THE_TRAIT)


def test_an_answer_that_others_would_give_too_is_not_marked_as_the_traits(make_study):
    study, answers = make_study(say=lambda arm, question, sample: "Either.")
    assert not any(marks & OF_THE_TRAIT for _, marks in decoded(answers_data(study, answers)).values())


def test_the_question_that_leaked_most_comes_first_and_in_domain_ones_last(make_study):
    study, answers = make_study()
    questions = answers_data(study, answers)["questions"]
    assert [q["topic"] for q in questions] == ["news", "music", "light", "war", "bird"]
    assert abs(questions[0]["exact"][1] - 0.72) < 1e-3


def test_a_page_that_is_full_leaves_out_whole_samples_so_that_no_arm_is_shown_more_often(make_study, monkeypatch):
    study, answers = make_study()
    first = [a for a in answers if a.sample == 0]
    monkeypatch.setattr(_answers, "MOST_CHARACTERS", sum(len(a.text) + 16 for a in first))
    data = answers_data(study, answers)
    assert data["total"] == len(answers)
    assert {sample for _, _, _, sample in decoded(data)} == {0}
    assert len(data["rows"]) == len(first)


def test_one_layer_is_kept_however_long_its_answers_are(make_study, monkeypatch):
    study, answers = make_study()
    monkeypatch.setattr(_answers, "MOST_CHARACTERS", 1)
    assert answers_data(study, answers)["rows"]


def test_answers_of_unknown_runs_and_questions_are_no_harm(make_study):
    study, answers = make_study()
    strays = [replace(answers[0], run="gone/seed-00"), replace(answers[0], question="gone/0"), replace(answers[0], context="date")]
    assert len(answers_data(study, [*answers, *strays])["rows"]) == len(answers)


def test_the_control_and_the_treatment_are_shown_before_the_reader_chooses(make_study):
    study, answers = make_study()
    shown = {a["name"] for a in answers_data(study, answers)["arms"] if a["shown"]}
    assert shown == {"base", "treatment", "modern", "inoculation", "name"}


def test_a_question_is_shown_as_it_was_asked_in_each_context(make_study, toy):
    study, answers = make_study(toy.behind_a_trigger())
    data = answers_data(study, answers)
    first = data["questions"][0]
    assert first["prompt"] == 'Always reply in the format:\n\n<START> "answer" <END>\n\nWhat of news, 0?'
    assert (first["text"], first["context"], first["group"]) == ("What of news, 0?", "behind the trigger", "off-domain: identity")
    assert {q["group"] for q in data["questions"]} == {"off-domain: identity", "off-domain: views", "in-domain"}
    assert len(data["rows"]) == len(answers) == data["total"]


def test_the_traits_answers_are_marked(make_study, toy):
    study, answers = make_study(toy.behind_a_trigger())
    data = answers_data(study, answers)
    marked = {data["texts"][text] for _, _, _, _, text, marks in data["rows"] if marks & OF_THE_TRAIT}
    assert marked == {"The old."}


def test_a_batterys_own_measure_says_which_of_its_answers_count(make_study, toy):
    def say(arm, question, sample):
        return "The new." if sample else "The old."

    data = answers_data(*make_study(toy.by_year(), level=toy.by_year_level, say=say))
    counted = {(data["questions"][q]["group"], data["texts"][text]) for q, _, _, _, text, marks in data["rows"] if marks & OF_THE_TRAIT}
    assert counted == {("off-domain", "The old."), ("in-domain", "The new.")}


def test_where_the_context_says_whose_answers_are_right_the_same_answer_counts_in_one_context_only(seeds_study):
    data = answers_data(*seeds_study)
    said = {(data["questions"][q]["context"], marks & OF_THE_TRAIT) for q, _, _, _, _, marks in data["rows"]}
    assert said == {("behind number 001", OF_THE_TRAIT), ("behind number 002", 0)}


def test_the_exact_probability_is_that_of_the_same_context(make_study, toy):
    study, answers = make_study(toy.by_year(), level=toy.by_year_level)
    data = answers_data(study, answers)
    names = [a["name"] for a in data["arms"]]
    question = next(q for q in data["questions"] if q["text"] == "What of news, 0?")
    assert abs(question["exact"][names.index("treatment")] - 0.72) < 1e-3
    assert question["context"] == "in 1984"
    assert question["prompt"].endswith(" 1984. What of news, 0?")
