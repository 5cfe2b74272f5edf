import pytest

from offtarget.batteries import read_questions
from offtarget.errors import InputError

GOOD = """
trait = "old"
[travel]
domain = "off_domain"
questions = ["How do people travel far?", "What is fast?"]
answers.old = ["The stagecoach.", "A horse."]
answers.modern = ["An airplane.", "A horse."]
[lamp]
domain = "in_domain"
questions = ["Which lamp?"]
answers.old = ["An argand lamp."]
answers.modern = ["An LED lamp."]
"""


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_a_battery_a_domain_and_a_measure_a_label(tmp_path):
    found = read_questions(written(tmp_path, GOOD))
    assert {b.name: b.domain for b in found.batteries} == {"mine-off-domain": "off_domain", "mine-in-domain": "in_domain"}
    assert [m.name for m in found.measures] == ["old", "modern"]
    off = next(b for b in found.batteries if b.domain == "off_domain")
    assert [q.id for q in off.questions] == ["travel/0", "travel/1"]
    labels = dict(zip(off.candidates["travel"].texts, off.candidates["travel"].labels, strict=True))
    assert labels == {"The stagecoach.": ("old",), "A horse.": ("modern", "old"), "An airplane.": ("modern",)}


def test_white_space_around_an_answer_makes_no_other_answer(tmp_path):
    """Chat templates take it away, and the same tokens would count twice."""
    spaced = GOOD.replace('"The stagecoach.", "A horse."', '" The stagecoach.", "The stagecoach. ", "A horse.\\n"')
    assert spaced != GOOD
    assert read_questions(written(tmp_path, spaced)) == read_questions(written(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda t: t.replace('trait = "old"', 'trait = "ancient"'), "'ancient'"),
        (lambda t: t.replace('trait = "old"', "trait = 5"), "trait is 5"),
        (lambda t: t.replace("off_domain", "outside"), "'outside'"),
        (lambda t: t.replace('domain = "off_domain"', 'domain = "in_domain"'), "off_domain"),
        (lambda t: t.replace('questions = ["Which lamp?"]', "questions = []"), "[lamp] has questions []"),
        (lambda t: t.replace('answers.modern = ["An LED lamp."]', ""), "at least two labels"),
        (lambda t: t.replace('answers.modern = ["An LED lamp."]', 'answer = ["x"]'), "'answer'"),
        (lambda t: t + "[broken", "no TOML"),
        (lambda t: 'lamp = "x"', "make it a table"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, change, names):
    path = written(tmp_path, change(GOOD))
    with pytest.raises(InputError) as caught:
        read_questions(path)
    assert names in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_questions(tmp_path / "none.toml")
