"""One splitter, one form, one prompt: what stage 4 asks for and what it lets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personagen_utils import prompts
from personagen_utils.errors import KitError
from personagen_utils.expression import (
    EMOTIONS,
    expression_requests,
    form_problem,
    split_sentences,
)
from personagen_utils.population import draw_population
from personagen_utils.scenario import compile_rules
from personagen_utils.tables import PERSONA, SCENE, load_tables

TABLES = load_tables("jp")
SCENES = draw_population(TABLES, 5, seed=2025, rules=compile_rules(TABLES)).astype(str)
SCENES.insert(0, "item", range(5))

SPLITS = {
    "no punctuation at all": 1,
    "One. Two.": 2,
    "One. two": 2,
    "I was... so scared. Really?! 😭": 2,
    "Wait... what": 1,
    "Wait... What": 2,
    "Dr. Sato came at 3.5 p.m. today": 1,
    "Mr. Ito, e.g., said no. I cried!": 2,
    '"Stop!" he said. Go!': 2,
    'He said "Stop!" Then he left.': 2,
    "わかった。すごい！": 2,
    "「やめて！」と言った。": 1,
    "No way!! 😡😡": 1,
    "No way (really). Fine.": 2,
    "So tired… and yet…": 1,
    "line one\nline two": 1,
    "A. B. C.": 3,
    "(╯°□°)╯ unbelievable!!!": 1,
    "3.5 million yen?! No.": 2,
    "It broke. I cried. #monday #tired 😭": 2,
    "#monday": 1,
    "Thank you @mika": 1,
}


@pytest.mark.parametrize("text", SPLITS)
def test_sentences_are_counted_as_a_reader_would(text: str) -> None:
    assert len(split_sentences(text)) == SPLITS[text], split_sentences(text)


@given(st.text(max_size=80))
def test_splitting_loses_nothing_but_white_space(text: str) -> None:
    text = text.replace("\0", "")
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def test_the_form_is_two_sentences_and_sixty_words() -> None:
    assert form_problem("I am so happy. Really.") is None
    assert form_problem("One. Two. Three.") == "3 sentences instead of at most 2"
    assert form_problem(" ".join(["word"] * 60)) is None
    assert form_problem(" ".join(["word"] * 61)) == "61 words instead of at most 60"
    assert form_problem("   ") == "the text is empty"
    assert form_problem("!?") == "the text is empty"


def test_a_language_without_spaces_is_measured_in_characters() -> None:
    assert form_problem("嬉" * 160, "Japanese") is None
    assert form_problem("嬉" * 161, "Japanese") == "161 characters instead of at most 160"


def test_crossed_speaks_once_per_emotion_and_fresh_once() -> None:
    crossed = expression_requests(TABLES, SCENES, EMOTIONS)
    assert len(crossed) == len(SCENES) * len(EMOTIONS)
    assert [r.meta["emotion"] for r in crossed[:7]] == list(EMOTIONS)
    assert {r.meta["item"] for r in crossed[:7]} == {0}
    fresh = expression_requests(TABLES, SCENES, EMOTIONS[:2], design="fresh")
    assert [r.meta["emotion"] for r in fresh] == ["joy", "anger", "joy", "anger", "joy"]
    with pytest.raises(KitError, match=r"DESIGN = 'both' must be one of crossed, fresh"):
        expression_requests(TABLES, SCENES, EMOTIONS, design="both")


def test_the_prompt_holds_persona_scene_style_and_emotion() -> None:
    request = expression_requests(TABLES, SCENES, ["fear"])[0]
    asked = request.messages[-1]["content"]
    row = SCENES.iloc[0]
    for name in (*PERSONA, *SCENE):
        shown = row[name].removesuffix("s") if name == "gender" else row[name]
        assert shown in asked, name
    assert "Emotion: fear (being afraid" in asked
    assert "At most two short sentences" in asked
    assert "{{" not in asked
    assert request.temperature == 1.2
    assert request.model == "gpt-4.1-mini"


def test_the_language_of_the_texts_is_asked_for() -> None:
    request = expression_requests(TABLES, SCENES, ["joy"], language="Japanese")[0]
    assert "Write in Japanese" in request.messages[-1]["content"]


def test_equal_prompts_are_told_apart_by_their_sample() -> None:
    twice = SCENES.iloc[[0, 0]].assign(item=[0, 1])
    requests = expression_requests(TABLES, twice, ["joy"])
    assert [r.sample for r in requests] == [0, 1]
    assert requests[0].key != requests[1].key


@pytest.mark.parametrize("emotions", [["joy", "rapture"], [], ["joy", "joy"]])
def test_an_unknown_or_repeated_emotion_is_refused(emotions: list[str]) -> None:
    with pytest.raises(KitError, match="EMOTIONS"):
        expression_requests(TABLES, SCENES, emotions)


def test_a_name_that_a_prompt_uses_and_nobody_supplies_is_an_error(tmp_path) -> None:
    (tmp_path / "x.j2").write_text("[user]\nHello {{ somebody }}")
    with pytest.raises(KitError, match=r"x.j2: 'somebody' is undefined"):
        prompts.render("x", {}, folder=tmp_path)
    (tmp_path / "y.j2").write_text("[user]\n{% if %}")
    with pytest.raises(KitError, match=r"y.j2, line 2"):
        prompts.render("y", {}, folder=tmp_path)
    (tmp_path / "z.j2").write_text("Hello")
    with pytest.raises(KitError, match=r"z.j2 must begin"):
        prompts.render("z", {}, folder=tmp_path)
    with pytest.raises(KitError, match=r"w.j2 is missing"):
        prompts.render("w", {}, folder=tmp_path)
