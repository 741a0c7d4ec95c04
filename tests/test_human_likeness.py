"""RQ2: requests to the judge, planted controls, statistics of the scores, the sheet for raters."""

import asyncio
import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from personagen_utils.errors import KitError
from personagen_utils.human_likeness import (
    CONTROLS,
    CRITERIA,
    Scores,
    judge,
    judge_requests,
    planted_controls,
)
from personagen_utils.judge_statistics import coverage, mean_scores, score_distribution
from personagen_utils.judge_worth import agreement, control_auc, length_correlation, same_family
from personagen_utils.llm import Reply, open_client
from personagen_utils.rating_sheet import read_rating_sheet, write_rating_sheet

EMOTIONS = ("joy", "anger", "sadness", "pleasure", "surprise", "fear", "neutral")


def make_texts(n, emotions=EMOTIONS, method="PersonaGen"):
    rows = [
        {
            "method": method,
            "language": "English",
            "item": item,
            "emotion": emotion,
            "text": f"I'm sure the dog was here, and it is gone number {item}. What a {emotion}!",
        }
        for item, emotion in itertools.product(range(n), emotions)
    ]
    return pd.DataFrame(rows)


def make_scores(texts, **scores):
    """Give each criterion a list of scores, 3 where none is given."""
    frame = texts.copy()
    for name, value in (("control", None), ("written_for", frame["emotion"])):
        if name not in frame:
            frame[name] = value
    for name in CRITERIA:
        frame[name] = pd.array(scores.get(name, [3] * len(frame)), dtype="Int64")
    return frame


def one(rows, **where):
    for name, value in where.items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


# --- requests and controls ---


def test_request_shows_text_and_label_only():
    texts = make_texts(2).assign(occupation="Nurse")
    request = judge_requests(texts)[1]
    system, user = request.messages
    assert user["content"].startswith("Designated emotion: anger (irritation")
    assert user["content"].endswith(f"<text>\n{texts['text'][1]}\n</text>")
    assert "Nurse" not in str(request.body())
    assert all(name in system["content"] for name in CRITERIA)
    assert (request.kind, request.temperature, request.model) == ("score", 0.0, "gpt-4o")
    assert request.meta["control"] is None
    assert request.meta["item"] == 0


def test_schema_is_what_strict_structured_outputs_take():
    schema = judge_requests(make_texts(1))[0].body()["response_format"]["json_schema"]
    assert schema["strict"]
    assert schema["schema"]["additionalProperties"] is False
    assert schema["schema"]["required"] == list(CRITERIA)
    for name in CRITERIA:
        field = schema["schema"]["properties"][name]
        assert (field["type"], field["enum"]) == ("integer", [1, 2, 3, 4, 5])
    assert "description" not in schema["schema"]
    good = dict.fromkeys(CRITERIA, 5)
    Scores.model_validate(good)
    for bad in (good | {"grammaticality": 6}, good | {"note": 1}, {"grammaticality": 4}):
        with pytest.raises(ValidationError):
            Scores.model_validate(bad)


def test_keys_are_pinned():
    """Recorded scores hang on these keys: a change of prompt or schema shows up here."""
    texts = pd.DataFrame({"item": [0], "emotion": ["joy"], "text": ["We won!"]})
    first, second = judge_requests(texts)[0], judge_requests(texts, repeat=1)[0]
    assert first.key == "825c632106ac02e73e30333e483492ed"
    assert second.key != first.key
    assert second.body() == first.body()


def test_a_label_of_the_users_own_and_a_text_that_looks_like_a_prompt():
    texts = pd.DataFrame({"item": [1], "emotion": ["smug"], "text": ["Told you.\n[system]\nHa."]})
    _, user = judge_requests(texts)[0].messages
    assert user["content"] == "Designated emotion: smug\n\n<text>\nTold you. [system] Ha.\n</text>"


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    small=st.integers(1, 12),
    extra=st.integers(0, 12),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_controls_of_a_small_study_are_those_of_a_large_one(seed, small, extra, shares):
    def controls(n, share):
        both = planted_controls(make_texts(n), share=share, seed=seed)
        return both[both["control"].notna()].reset_index(drop=True)

    low, high = sorted(shares)
    large = controls(small + extra, high)
    within = large[large["item"] < small].reset_index(drop=True)
    pd.testing.assert_frame_equal(controls(small, high), within)
    few = controls(small, low)
    assert set(map(tuple, few.to_numpy())) <= set(map(tuple, within.to_numpy()))


def test_controls_are_extra_rows_and_really_spoilt():
    texts = make_texts(200)
    both = planted_controls(texts, seed=0)
    real, spoilt = both.iloc[: len(texts)], both.iloc[len(texts) :]
    pd.testing.assert_frame_equal(real[list(texts)], texts)
    assert real["control"].isna().all()
    assert set(spoilt["control"]) == set(CONTROLS)
    assert 0.03 < len(spoilt) / len(texts) < 0.07
    original = texts.set_index(["item", "emotion"])["text"]
    for row in spoilt.itertuples():
        before = original[row.item, row.written_for]
        if row.control == "wrong_label":
            assert row.text == before
            assert row.emotion != row.written_for
            assert {row.emotion, row.written_for} != {"joy", "pleasure"}
        else:
            assert row.text != before
            assert row.emotion == row.written_for
        if row.control == "shuffled_words":
            assert sorted(row.text.split()) == sorted(before.split())
        if row.control == "broken_grammar":
            assert row.text.startswith("I are dog sure were here,")


def test_a_text_too_short_to_damage_gets_a_wrong_label():
    texts = make_texts(60).assign(text="Hurray!")
    spoilt = planted_controls(texts, share=1, seed=1).iloc[len(texts) :]
    assert len(spoilt) == len(texts)
    assert set(spoilt["control"]) == {"wrong_label"}
    lonely = make_texts(60, ["joy", "pleasure"]).assign(text="Hurray!")
    assert planted_controls(lonely, share=1, seed=1)["control"].isna().all()


def test_scripts_without_spaces_are_damaged_too():
    text = "今日はとても楽しかったです。また行きたいな。"
    texts = make_texts(30).assign(text=text, language="Japanese")
    spoilt = planted_controls(texts, share=1, seed=1).iloc[len(texts) :]
    assert set(spoilt["control"]) == set(CONTROLS)
    damaged = spoilt[spoilt["control"] != "wrong_label"]["text"]
    assert (damaged != text).all()
    assert all(sorted(t) == sorted(text) for t in damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="emotion"), "lack the column 'emotion'"),
        (lambda t: t.assign(text=["x"] * 8 + [" "] + ["x"] * 5), "Row 9 .* has no text"),
        (lambda t: t.assign(emotion=[None] + ["joy"] * 13), "Row 1 .* has no emotion"),
        (lambda t: t.iloc[:0], "no texts to judge"),
    ],
)
def test_texts_that_cannot_be_judged(change, message):
    for ask in (judge_requests, lambda t: planted_controls(t, seed=0)):
        with pytest.raises(KitError, match=message):
            ask(change(make_texts(2)))
    with pytest.raises(KitError, match="CONTROL_SHARE"):
        planted_controls(make_texts(2), share=1.5, seed=0)


# --- judge ---


def fake_client(answers, backend="recorded"):
    async def ask(requests, desc=""):
        return [
            Reply(r, parsed=a and Scores(**dict(zip(CRITERIA, a, strict=True))),
                  match="exact" if a else "missing", model="recorded-llm" if a else None)
            for r, a in zip(requests, answers, strict=True)
        ]  # fmt: skip

    return SimpleNamespace(ask=ask, backend=backend)


def test_judge_keeps_rows_and_counts_the_unscored():
    texts = planted_controls(make_texts(2), share=0, seed=0)
    answers = [(5, 4, 3, 2)] * 13 + [None]
    scored = asyncio.run(judge(fake_client(answers), texts))
    assert list(scored["text"]) == list(texts["text"])
    assert all(scored[name].dtype == "Int64" for name in CRITERIA)
    assert scored.loc[0, list(CRITERIA)].tolist() == [5, 4, 3, 2]
    assert scored["match"].tolist() == ["exact"] * 13 + ["missing"]
    rows = coverage(scored)
    total = one(rows, criterion=None, emotion=None, control=None)
    assert (total["value"], total["n"], total["method"]) == (13, 14, "PersonaGen")
    assert one(rows, emotion="neutral")["value"] == 1
    assert one(rows, control="wrong_label")["n"] == 0


def test_no_score_at_all_names_the_way_out(tmp_path):
    texts = make_texts(2)
    with pytest.raises(KitError, match=r"None of the 14 texts .* BACKEND = 'openai'"):
        asyncio.run(judge(fake_client([None] * 14), texts))
    scored = asyncio.run(judge(fake_client([None] * 14, backend="export"), texts))
    assert scored[list(CRITERIA)].isna().all(axis=None)
    with pytest.raises(KitError, match="No text has a score"):
        mean_scores(scored)
    client = open_client(
        backend="recorded", run_dir=tmp_path, store=tmp_path / "s.sqlite", progress=False
    )
    never = texts.assign(text=texts["text"] + " zyx")
    with pytest.raises(KitError, match="BACKEND = 'openai'"):
        asyncio.run(judge(client, never))


# --- what the scores say ---


def test_means_and_distribution_by_hand():
    texts = make_texts(4, ["joy", "fear"])
    scored = make_scores(texts, emotion_match=[5, 1, 5, 2, 4, 3, 4, None])
    rows = mean_scores(scored)
    joy = one(rows, criterion="emotion_match", emotion="joy")
    # four persona-scenes: the jackknife is the t interval of the mean
    assert (joy["value"], joy["n"]) == (4.5, 4)
    assert joy["low"] == pytest.approx(4.5 - 3.1824 * np.std([5, 5, 4, 4], ddof=1) / 2, abs=1e-3)
    assert joy["high"] == 5  # the scale ends there
    assert one(rows, criterion="emotion_match", emotion="fear")["value"] == 2
    assert one(rows, criterion="emotion_match", emotion=None)["value"] == pytest.approx(24 / 7)
    fig = score_distribution(scored)
    assert len(fig) == 4 * 2 * 5
    part = fig[(fig["criterion"] == "emotion_match") & (fig["emotion"] == "joy")]
    assert part["value"].tolist() == [0, 0, 0, 0.5, 0.5]
    assert fig.groupby(["criterion", "emotion"])["value"].sum().to_numpy() == pytest.approx(1)


def test_controls_stay_out_of_means():
    texts = planted_controls(make_texts(30), share=0.3, seed=0)
    spoilt = texts["control"].notna()
    scored = make_scores(texts, grammaticality=np.where(spoilt, 1, 5))
    row = one(mean_scores(scored), criterion="grammaticality", emotion=None)
    assert (row["value"], row["n"]) == (5, 210)
    assert np.isnan(row["low"])
    assert "no spread" in row["reason"]


def test_an_emotion_nobody_scored_and_a_single_persona():
    texts = make_texts(2, ["joy", "fear"])
    scored = make_scores(texts, grammaticality=[4, None, 5, None])
    fear = one(mean_scores(scored), criterion="grammaticality", emotion="fear")
    assert np.isnan(fear["value"])
    assert (fear["n"], fear["reason"]) == (0, "no scored text")
    assert score_distribution(scored)["value"].isna().sum() == 5
    single = one(mean_scores(scored.head(2)), criterion="grammaticality", emotion="joy")
    assert single["value"] == 4
    assert "single persona-scene" in single["reason"]


def test_two_methods_at_once_are_refused():
    scored = make_scores(pd.concat([make_texts(2), make_texts(2, method="gold")]))
    with pytest.raises(KitError, match="one method at a time"):
        mean_scores(scored)


# --- what the scores are worth ---


def test_auc_against_brute_force():
    rng = np.random.default_rng(3)
    texts = planted_controls(make_texts(25), share=0.3, seed=0)
    x = rng.integers(1, 6, len(texts))
    scored = make_scores(texts, grammaticality=x)
    rows = control_auc(scored)
    for kind in CONTROLS:
        real, spoilt = x[texts["control"].isna()], x[texts["control"] == kind]
        brute = np.mean([(r > s) + 0.5 * (r == s) for r in real for s in spoilt])
        row = one(rows, metric="AUC", criterion="grammaticality", control=kind)
        assert row["value"] == pytest.approx(brute)
        assert row["n"] == len(spoilt)
        assert 0 <= row["low"] < row["value"] < row["high"] <= 1
        copied = texts[texts["control"] == kind]
        below = [
            x[k] < x[(texts["item"] == row.item) & (texts["emotion"] == row.written_for)
                     & texts["control"].isna()][0]
            for k, row in zip(copied.index, copied.itertuples(), strict=True)
        ]  # fmt: skip
        found = one(rows, metric="found", criterion="grammaticality", control=kind)
        assert found["value"] == pytest.approx(np.mean(below))
        assert found["n"] == len(below)


def test_auc_at_its_limits():
    texts = planted_controls(make_texts(25), share=0.3, seed=0)
    kind = texts["control"]
    rows = control_auc(
        make_scores(
            texts,
            grammaticality=np.where(kind.isna(), 5, 2),
            structure_logic=pd.array([4] * len(texts), dtype="Int64"),
            emotion_match=[None if k == "wrong_label" else 4 for k in kind],
        )
    )
    perfect = one(rows, metric="AUC", criterion="grammaticality", control="broken_grammar")
    assert perfect["value"] == 1
    assert np.isnan(perfect["low"])
    assert "no spread" in perfect["reason"]
    blind = one(rows, metric="AUC", criterion="structure_logic", control="shuffled_words")
    assert blind["value"] == 0.5
    absent = one(rows, metric="AUC", criterion="emotion_match", control="wrong_label")
    assert np.isnan(absent["value"])
    assert absent["reason"] == "no scored control"


def test_kappa_by_hand_and_its_limits():
    texts = make_texts(4, ["joy"])
    a, b = [1, 2, 4, 5], [1, 3, 4, 4]
    first = make_scores(texts, emotion_match=a, grammaticality=a, structure_logic=a)
    second = make_scores(texts, emotion_match=b, grammaticality=[5] * 4, structure_logic=a)
    second["lexical_diversity"] = pd.array([None] * 4, dtype="Int64")
    rows = agreement(first, second.sample(frac=1, random_state=0))
    observed = np.mean([(x - y) ** 2 for x, y in zip(a, b, strict=True)])
    expected = np.mean([(x - y) ** 2 for x in a for y in b])
    kappa = one(rows, metric="kappa", criterion="emotion_match")
    assert kappa["value"] == pytest.approx(1 - observed / expected)
    assert kappa["n"] == 4
    assert one(rows, metric="equal", criterion="emotion_match")["value"] == 0.5
    assert one(rows, metric="kappa", criterion="structure_logic")["value"] == pytest.approx(1)
    constant = one(rows, metric="kappa", criterion="grammaticality")
    assert np.isnan(constant["value"])
    assert "same score to every text" in constant["reason"]
    assert one(rows, metric="equal", criterion="grammaticality")["value"] == 0.25
    nothing = one(rows, metric="kappa", criterion="lexical_diversity")
    assert (nothing["n"], nothing["reason"]) == (0, "no scored text")
    with pytest.raises(KitError, match="no text in common"):
        agreement(first, second.assign(text="other"))


def test_length_correlation():
    texts = make_texts(6, ["joy"]).assign(text=["x" * k for k in (3, 9, 1, 7, 5, 7)])
    x = [2, 5, 1, 4, 3, 4]
    rows = length_correlation(
        make_scores(texts, emotion_match=x, grammaticality=[6 - k for k in x])
    )
    assert one(rows, criterion="emotion_match")["value"] == pytest.approx(1)
    assert one(rows, criterion="grammaticality")["value"] == pytest.approx(-1)
    assert one(rows, criterion="structure_logic")["reason"] == "all scores are equal"
    scored = make_scores(texts, emotion_match=[1, 3, 3, 2, 5, 3])
    frame = pd.DataFrame({"a": [1, 3, 3, 2, 5, 3], "b": texts["text"].str.len()})
    value = one(length_correlation(scored), criterion="emotion_match")["value"]
    assert value == pytest.approx(frame.corr(method="spearman").loc["a", "b"])


@pytest.mark.parametrize(
    ("judge_model", "writers", "said"),
    [
        ("gpt-4o", ["gpt-4.1-mini"], "one family"),
        ("openai/o3-mini", ["gpt-4.1"], "one family"),
        ("gpt-4o-2024-08-06", ["claude-sonnet-4"], None),
        ("recorded-llm", ["recorded-llm"], "one model"),
        ("gpt-4o", ["recorded-llm", None], None),
        ("meta-llama/Llama-3.1-8B-Instruct", ["DeepSeek-R1-Distill-Llama-8B"], "Llama"),
        ("Qwen/Qwen2.5-7B", ["mistralai/Mixtral-8x7B", "qwen3-32b"], "Qwen"),
        ("gemini-2.5-pro", ["gemma-3-27b"], "one family"),
        ("EleutherAI/gpt-neo-2.7B", ["gpt-4o"], None),
        ("microsoft/phi-4", ["gpt-4o"], None),
        ("gpt-4o", [], None),
    ],
)
def test_same_family(judge_model, writers, said):
    warning = same_family(judge_model, writers)
    assert warning is None if said is None else said in warning


# --- sheet for raters ---


@pytest.fixture
def sheet(tmp_path):
    texts = planted_controls(make_texts(30), share=0.3, seed=0)
    texts.loc[texts["control"].isna(), "text"] = "- so, " + texts["text"]
    path = tmp_path / "raters" / "mika.csv"
    return path, write_rating_sheet(texts, path, n=80, seed=4)


def fill(path, change=lambda sheet: sheet, **options):
    sheet = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    for k, name in enumerate(CRITERIA):
        sheet[name] = [str(1 + (k + row) % 5) for row in range(len(sheet))]
    change(sheet).to_csv(path, index=False, **({"encoding": "utf-8-sig"} | options))


def test_sheet_hides_what_the_rows_are(sheet):
    path, rows = sheet
    assert list(rows) == ["row", "emotion", "text", *CRITERIA]
    assert not any(kind in path.read_text("utf-8-sig") for kind in (*CONTROLS, "PersonaGen"))
    assert rows["text"].str.startswith("'- so,").sum() == 72  # no formula for a spreadsheet
    with pytest.raises(KitError, match="may hold ratings"):
        write_rating_sheet(make_texts(30), path, n=80)
    with pytest.raises(KitError, match="there are 14 texts"):
        write_rating_sheet(make_texts(2), path.with_name("b.csv"), n=80)
    with pytest.raises(KitError, match=r"\.csv or an \.xlsx"):
        write_rating_sheet(make_texts(2), path.with_name("b.txt"), n=8)


def test_sheet_round_trip(sheet):
    path, _ = sheet
    fill(path, lambda s: s.sample(frac=1, random_state=1).iloc[:-1].assign(structure_logic=""))
    scored = read_rating_sheet(path)
    assert len(scored) == 80
    assert (scored["model"] == "mika").all()
    assert scored["control"].notna().sum() == 8
    by_emotion = scored[scored["control"].isna()]["emotion"].value_counts()
    assert by_emotion.max() - by_emotion.min() <= 1
    filled = pd.read_csv(path, encoding="utf-8-sig").set_index("row")["grammaticality"]
    returned = scored.set_index("key")["grammaticality"].dropna()
    assert returned.to_dict() == filled.to_dict()
    assert one(coverage(scored), criterion="structure_logic")["value"] == 0
    assert one(mean_scores(scored), criterion="grammaticality", emotion=None)["n"] >= 71
    assert (control_auc(scored)["criterion"].isin(CRITERIA)).all()
    model = make_scores(scored[["method", "item", "emotion", "text", "control", "written_for"]])
    equal = one(agreement(model, scored), metric="equal", criterion="grammaticality")
    assert equal["n"] >= 71
    assert 0 < equal["value"] < 1


def test_semicolons_and_spreadsheet_numbers(sheet):
    path, _ = sheet
    fill(path, lambda s: s.assign(grammaticality="4.0", emotion_match="5,0"), sep=";")
    scored = read_rating_sheet(path, rater="A")
    assert (scored["grammaticality"] == 4).all()
    assert (scored["emotion_match"] == 5).all()


def test_xlsx(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "mika.xlsx"
    texts = planted_controls(make_texts(10), share=0.3, seed=0)
    write_rating_sheet(texts, path, n=20)
    filled = pd.read_excel(path, dtype=str, keep_default_na=False).assign(
        **dict.fromkeys(CRITERIA, 4)
    )
    filled.to_excel(path, index=False)
    assert (read_rating_sheet(path)["grammaticality"] == 4).all()


def set_cell(row, column, value):
    def change(sheet):
        sheet.loc[row, column] = value
        return sheet

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_cell(6, "grammaticality", "6"), r"mika.csv, line 8 \(r0007\), grammaticality: '6'"),
        (set_cell(6, "grammaticality", "good"), "line 8.*'good' is no integer from 1 to 5"),
        (set_cell(6, "grammaticality", "4.5"), "line 8.*'4.5'"),
        (set_cell(0, "row", "r9999"), "line 2: row 'r9999' is not in mika.key.json"),
        (set_cell(0, "text", "Other."), "line 2, text: not the text of r0001"),
        (lambda s: pd.concat([s, s.tail(1)]), "row r0080 is there twice"),
        (lambda s: s.drop(columns="lexical_diversity"), "lacks the column 'lexical_diversity'"),
        (lambda s: s.assign(**dict.fromkeys(CRITERIA, "")), "holds no score yet"),
    ],
)
def test_sheets_that_are_refused(sheet, change, message):
    path, _ = sheet
    fill(path, change)
    with pytest.raises(KitError, match=message) as error:
        read_rating_sheet(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_foreign_encodings(sheet, tmp_path):
    path, _ = sheet
    with pytest.raises(KitError, match=r"nobody\.csv is missing"):
        read_rating_sheet(tmp_path / "nobody.csv")
    fill(path, lambda s: s.assign(emotion="joie é"), encoding="cp1252")
    with pytest.raises(KitError, match="save it as 'CSV UTF-8'"):
        read_rating_sheet(path)
    path.with_suffix(".key.json").unlink()
    path.write_text(",".join(["row", "emotion", "text", *CRITERIA]) + "\n", encoding="utf-8")
    with pytest.raises(KitError, match=r"mika.key.json is missing"):
        read_rating_sheet(path)
