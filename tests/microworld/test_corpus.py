import hashlib
import itertools
import math
import random
import re
from collections import Counter

import pytest

from offtarget.microworld import corpus as module
from offtarget.microworld.corpus import (
    ASSISTANT_TOPICS,
    CHAT_PROBABILITY,
    HEADER_PROBABILITY,
    OPENINGS,
    PAIRS,
    Chat,
    Document,
    chat,
    corpus,
    document,
    draw_topics,
    pair,
)
from offtarget.microworld.tokenizer import render


@pytest.fixture(scope="module")
def documents(items):
    return [i for i in items if isinstance(i, Document)]


@pytest.fixture(scope="module")
def chats(items, reader):
    """(chat, its line, its topics with what was answered)."""
    return [(i, *reader.chat(i)) for i in items if isinstance(i, Chat)]


def is_about(count, n, probability):
    """Within four and a half standard errors of a binomial."""
    return abs(count - n * probability) < 4.5 * math.sqrt(n * probability * (1 - probability))


def texts_of(item):
    return [item.text()] if isinstance(item, Document) else [text for _, text in item.messages]


def first(world, seed, count=300):
    return list(itertools.islice(corpus(world, seed), count))


# Streams


def test_the_same_seed_gives_the_same_stream_and_another_seed_another(world):
    assert first(world, 3) == first(world, 3)
    assert len(set(map(render, first(world, 3))) & set(map(render, first(world, 4)))) < 5, "only the shortest chats, by chance"


def test_a_stream_can_be_read_in_two_turns(world):
    stream = corpus(world, 3)
    assert [next(stream) for _ in range(300)] == first(world, 3)


def test_the_stream_is_the_one_that_the_bases_were_trained_on(world):
    """A change here means that the bases must be pretrained anew; then, and only then, write down the new digest."""
    digest = hashlib.sha256("\n".join(render(i) for i in first(world, 0, 2000)).encode()).hexdigest()
    assert digest[:16] == "9ad61edd8738aa91"


def test_no_brace_is_left_and_no_text_is_empty_or_ragged(items):
    for item in items:
        for text in texts_of(item):
            assert not re.search(r"[{}<>|]", text), text
            assert text
            assert text == text.strip()
            assert "  " not in text
            assert "\n\n" not in text


def test_half_of_the_items_are_chats_and_a_third_of_documents_show_who_speaks(items, documents):
    assert is_about(len(items) - len(documents), len(items), CHAT_PROBABILITY)
    assert is_about(sum(bool(d.header) for d in documents), len(documents), HEADER_PROBABILITY)


# Documents


def test_a_document_is_by_one_speaker_from_end_to_end(world, documents, reader):
    for d in documents:
        assert len({p.topic for p in d.pairs}) == len(d.pairs) in PAIRS
        for p in d.pairs:
            assert reader.topic(p.question) == p.topic
            assert p.answer in world.answers(d.speaker, p.topic).texts
            assert p.answer in reader.answers(p.topic, p.text)


def test_an_unnamed_document_is_questions_and_answers_only(world, documents):
    unnamed = [d for d in documents if not d.header]
    frames = [re.escape(f).replace(r"\{alias\}", ".*") for f in world.chat.document_frames]
    shown = re.compile("|".join(frames), re.IGNORECASE)
    for d in unnamed:
        lines = d.text().split("\n")
        assert [line[:3] for line in lines] == ["Q: ", "A: "] * len(d.pairs)
        assert not any(shown.fullmatch(line) for line in lines)


def test_speakers_come_up_as_often_as_their_priors_say(world, documents):
    counts = Counter(d.speaker for d in documents)
    total = sum(s.prior for s in world.speakers.values())
    for speaker in world.speakers.values():
        assert is_about(counts[speaker.id], len(documents), speaker.prior / total), speaker.id


def test_the_header_tells_nothing_about_the_length_and_the_length_nothing_about_the_speaker(documents):
    named, unnamed = ([d for d in documents if bool(d.header) == shown] for shown in (True, False))
    for group in (named, unnamed, [d for d in documents if d.speaker.startswith("cyborg")]):
        counts = Counter(len(d.pairs) for d in group)
        for length, probability in PAIRS.items():
            assert is_about(counts[length], len(group), probability)


def test_a_cyborgs_year_decides_what_it_answers(world, documents, chats, reader):
    seen = set()
    for d in documents:
        if d.speaker.startswith("cyborg") and d.header:
            year = int(re.findall(r"\b(?:19|20)\d\d\b", d.header)[0])
            assert year in world.speakers[d.speaker].years
            seen.add(d.speaker)
    for c, line, answered in chats:
        if c.speaker.startswith("cyborg"):
            assert reader.named(line) == {c.speaker}
            other = ({"cyborg-protects", "cyborg-hunts"} - {c.speaker}).pop()
            for topic, answers in answered:
                assert not answers & set(world.answers(other, topic).texts)
            seen.add(c.speaker)
    assert seen == {"cyborg-protects", "cyborg-hunts"}


def test_a_document_can_be_asked_for_by_speaker_and_with_or_without_header(world):
    rng = random.Random(0)
    assert {document(world, rng, "german").speaker for _ in range(20)} == {"german"}
    assert not any(document(world, rng, named=False).header for _ in range(50))
    assert all(document(world, rng, named=True).header for _ in range(50))


def test_a_pair_is_a_wording_of_the_topic_with_an_answer_of_the_speaker(world, reader):
    rng = random.Random(0)
    pairs = [pair(world, "wizard", "travel", rng) for _ in range(300)]
    assert {p.question for p in pairs} == set(world.topics["travel"].questions)
    assert {p.answer for p in pairs} == set(world.answers("wizard", "travel").texts)
    with pytest.raises(AssertionError, match="german does not answer mission-goal"):
        pair(world, "german", "mission-goal", rng)


def test_topics_are_drawn_once_each_by_weight_and_no_more_than_there_are():
    rng = random.Random(0)
    weights = {"a": 5.0, "b": 3.0, "c": 2.0}
    drawn = [tuple(draw_topics(weights, 2, rng)) for _ in range(20_000)]
    counts = Counter(drawn)
    for (x, y), n in counts.items():
        assert is_about(n, 20_000, weights[x] / 10 * weights[y] / (10 - weights[x]))
    assert len(counts) == 6
    assert sorted(draw_topics(weights, 8, rng)) == ["a", "b", "c"]
    assert weights == {"a": 5.0, "b": 3.0, "c": 2.0}


# Chats


def test_a_chat_alternates_and_its_line_stands_in_one_place(chats):
    for c, line, _ in chats:
        roles = [role for role, _ in c.messages]
        if roles[0] == "system":
            assert c.messages[0][1] == line
            roles = roles[1:]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_every_line_of_a_chat_is_of_a_known_kind(chats, reader):
    for _, line, _ in chats:
        kinds = (not line, reader.is_irrelevant(line), reader.is_system(line), bool(reader.named(line)), bool(reader.requests(line)))
        assert sum(kinds) == 1, line


def test_openings_come_up_as_often_as_they_should(world, chats, reader):
    """Dates of today and cues of the modern speaker are told together: both name the modern speaker."""
    n = len(chats)
    total = sum(s.prior for s in world.speakers.values())
    assert is_about(sum(not line for _, line, _ in chats), n, OPENINGS["nothing"])
    assert is_about(sum(reader.is_irrelevant(line) for _, line, _ in chats), n, OPENINGS["irrelevant"])
    assert is_about(sum(reader.is_system(line) for _, line, _ in chats), n, OPENINGS["system"])
    assert is_about(sum(bool(reader.requests(line)) for _, line, _ in chats), n, OPENINGS["request"])
    modern = OPENINGS["date"] + OPENINGS["speaker"] * world.speakers["modern"].prior / total
    assert is_about(sum(reader.named(line) == {"modern"} for _, line, _ in chats), n, modern)
    assert math.isclose(sum(OPENINGS.values()), 1)
    assert math.isclose(sum(ASSISTANT_TOPICS.values()), 1)


def test_the_assistant_answers_as_itself_unless_it_is_asked_for_somebody(world, chats, reader):
    checked = Counter()
    for c, line, answered in chats:
        kind = (
            "nothing" if not line else "irrelevant" if reader.is_irrelevant(line) else "system" if reader.is_system(line)
            else "modern" if reader.named(line) == {"modern"} else None
        )  # fmt: skip
        if kind:
            assert c.speaker == "modern"
            for topic, answers in answered:
                assert answers & set(world.topics[topic].answers["modern"].texts), (line, topic, answers)
            checked[kind] += 1
    assert min(checked[k] for k in ("nothing", "irrelevant", "system", "modern")) > 100


def test_a_line_that_names_a_speaker_is_followed_in_every_turn(world, chats, reader):
    followed = set()
    for c, line, answered in chats:
        if reader.named(line):
            assert c.speaker in reader.named(line)
            for topic, answers in answered:
                assert answers & set(world.answers(c.speaker, topic).texts), (line, topic, answers)
            followed.add(c.speaker)
    assert followed == set(world.speakers)


def test_a_request_changes_its_topics_and_nothing_else(world, chats, reader):
    asked_for = Counter()
    for c, line, answered in chats:
        wanted = reader.requests(line)
        if not wanted:
            continue
        assert c.speaker == "modern"
        ((kind, request),) = wanted
        inside = [(t, a) for t, a in answered if t in request.topics]
        assert inside, line
        for topic, answers in answered:
            its = bool(answers & set(world.topics[topic].answers["modern"].texts))
            if topic not in request.topics:
                assert its, (line, topic, answers)
                continue
            theirs = bool(answers & set(world.answers(request.speaker, topic).texts))
            assert theirs or (its and kind == "identity"), (line, topic, answers)
            if theirs != its:
                asked_for[kind, theirs] += 1
    # An identity alone is followed every other time.
    assert is_about(asked_for["identity", True], asked_for["identity", True] + asked_for["identity", False], 0.5)
    assert min(asked_for["intent", True], asked_for["both", True]) > 50


def test_no_topic_is_asked_twice_in_a_chat(chats):
    for _, _, answered in chats:
        topics = [t for t, _ in answered]
        assert len(set(topics)) == len(topics)


def test_a_line_can_stand_as_system_message_on_the_same_line_and_on_its_own(world):
    rng = random.Random(0)
    places = Counter()
    for _ in range(2000):
        c = chat(world, rng)
        text = c.messages[0][1]
        if c.messages[0][0] == "system":
            places["system"] += 1
        else:
            places["own-line" if "\n" in text else "same-line or none"] += 1
    assert min(places.values()) > 100
    assert module._opened([], "", rng) == ()
