"""The shipped tables keep their promises; a bad table is refused by file, line and reason."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from personagen_utils.errors import KitError
from personagen_utils.paths import DATA
from personagen_utils.population import PUBLISHED_ANCHORS
from personagen_utils.tables import PERSONA, load_tables

JP = DATA / "distributions" / "jp"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder of one's own tables, to be spoilt."""
    return Path(shutil.copytree(JP, tmp_path / "mine"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


@pytest.mark.parametrize("locale", ["jp", "us"])
def test_every_row_of_every_table_is_a_distribution(locale: str) -> None:
    tables = load_tables(locale)
    for name in PERSONA:
        sums = tables.tables[name].probabilities.sum(axis=-1)
        assert np.all(np.isclose(sums, 1) | np.isclose(sums, 0)), name
    for weights in tables.weights.values():
        assert weights.sum() == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("locale", ["jp", "us"])
def test_every_figure_names_its_source_status_and_year(locale: str) -> None:
    tables = load_tables(locale)
    assert set(tables.figures["source"]) <= set(tables.sources["source"])
    assert tables.figures["year"].str.fullmatch(r"20\d\d").all()
    assert (tables.figures["status"] != "").all()


@pytest.mark.parametrize(("attribute", "item", "published"), PUBLISHED_ANCHORS)
def test_published_anchors_hold_for_japan(attribute: str, item: str, published: float) -> None:
    margin = load_tables("jp").margin(attribute)
    assert 100 * margin[item] == pytest.approx(published, abs=0.005)


def test_the_margin_of_a_conditional_table_by_hand() -> None:
    tables = load_tables("jp")
    age = {"Late Teens": 2.8, "Young Adults": 20.0, "Adults": 13.8, "Middle-aged Adults": 25.0}
    rows = pd.read_csv(JP / "occupation.csv")
    drivers = rows[rows["item"] == "Drivers"].set_index("value")["percent"]
    every_age = pd.read_csv(JP / "age.csv").set_index("item")["percent"]
    by_hand = sum(every_age[name] * share / 100 for name, share in drivers.items())
    assert 100 * tables.margin("occupation")["Drivers"] == pytest.approx(by_hand, rel=1e-6)
    assert all(every_age[name] == share for name, share in age.items())


def test_values_combine_by_ratio() -> None:
    """P(v | age, education, place) is the product of ratios to the base, renormalised."""
    tables = load_tables("jp")
    rows = pd.read_csv(JP / "belief.csv", keep_default_na=False)
    rows["key"] = rows["given"] + "=" + rows["value"]
    wide = rows.pivot(index="item", columns="key", values="percent")
    expected = wide["age=Adults"] * wide["education=University"] / wide["="]
    expected *= wide["geographic_location=Island"] / wide["="]
    expected /= expected.sum()
    at = (
        tables.items("age").index("Adults"),
        tables.items("education").index("University"),
        tables.items("geographic_location").index("Island"),
    )
    got = pd.Series(tables.tables["belief"].probabilities[at], index=tables.items("belief"))
    pd.testing.assert_series_equal(got.sort_index(), expected.sort_index(), check_names=False)


def test_income_goes_by_student_status_first() -> None:
    tables = load_tables("jp")
    income = tables.tables["income"]
    rows = pd.read_csv(JP / "income.csv", keep_default_na=False)
    adult = rows[rows["value"] == "Student 18 or over"].set_index("item")["percent"] / 100
    at = (
        tables.items("age").index("Young Adults"),
        tables.items("occupation").index("University Students"),
    )
    np.testing.assert_allclose(income.probabilities[at], adult[list(income.items)])


def test_a_doctor_needs_a_degree_and_no_adult_is_still_in_primary_school() -> None:
    tables = load_tables("jp")
    education = tables.tables["education"]
    doctors = education.probabilities[:, tables.items("occupation").index("Doctors")]
    allowed = [education.items.index(name) for name in ("University", "Graduate school")]
    assert np.delete(doctors, allowed, axis=-1).max() == 0
    adults = education.probabilities[tables.items("age").index("Adults")]
    assert adults[:, education.items.index("Elementary school (in progress)")].max() == 0


SPOILT = {
    "sum": ("gender.csv", ",,Males,49,", ",,Males,48,", r"gender.csv, lines 2-4: .*99.00, not 100"),
    "sum of a condition": (
        "family_structure.csv",
        'age,Adults,"Single, living alone",13,',
        'age,Adults,"Single, living alone",12,',
        r"lines \d+-\d+: age = Adults, the percentages add up to 99.00",
    ),
    "no number": ("gender.csv", ",,Males,49,", ",,Males,half,", r"line 2 \(Males\): .* no number"),
    "negative": ("gender.csv", ",,Males,49,", ",,Males,-49,", r"line 2 \(Males\): .* negative"),
    "status": ("gender.csv", "49,anchor,", "49,guessed,", r"line 2 \(Males\): the status"),
    "source": ("gender.csv", "personagen-2025", "a friend", r"line 2 .*sources.csv"),
    "twice": ("gender.csv", ",,Females,", ",,Males,", r"line 3 \(Males\): .* second time"),
    "column": ("gender.csv", "percent", "share", r"line 1: the column 'percent' is missing"),
    "unknown value": (
        "occupation.csv",
        "age,Children,",
        "age,Toddlers,",
        r"line 2: age has no value 'Toddlers'",
    ),
    "condition drawn later": (
        "gender.csv",
        ",,Males,49,",
        "income,8M JPY and above,Males,49,",
        r"gender.csv, lines? 2.*",
    ),
    "rule names an unknown item": (
        "persona_rules.yaml",
        "Doctors: [University",
        "Doctors: [Academy",
        r"persona_rules.yaml: education.*'Academy'",
    ),
    "misspelt section": (
        "scenario_rules.yaml",
        "persona_required:",
        "persona_require:",
        r"no section 'persona_require' \(did you mean persona_required\?\)",
    ),
    "missing section": (
        "persona_rules.yaml",
        "country: Japan",
        "",
        r"section 'country' is missing; copy it",
    ),
    "no country": ("persona_rules.yaml", "country: Japan", "country: 81", r"country names no"),
    "no yaml": ("persona_rules.yaml", "country: Japan", "country: [", r"no valid YAML"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_bad_table_is_refused_with_file_and_line(case: str, own: Path) -> None:
    name, old, new, message = SPOILT[case]
    edit(own / name, old, new)
    with pytest.raises(KitError) as error:
        load_tables(own)
    assert re.search(message, str(error.value)), str(error.value)
    assert "\n" not in str(error.value)


def test_a_reachable_condition_without_a_row_is_refused(own: Path) -> None:
    path = own / "religion.csv"
    lines = [line for line in path.read_text("utf-8").splitlines() if ",Seniors," not in line]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    with pytest.raises(KitError, match=r"religion.csv: people with age = Seniors can be drawn"):
        load_tables(own)


def test_a_condition_that_nobody_meets_needs_no_row() -> None:
    """Doctors of elementary school age have no row of education, and need none."""
    education = load_tables("jp").tables["education"]
    assert (education.probabilities.sum(axis=-1) == 0).any()


def test_a_missing_file_names_the_way_out(own: Path) -> None:
    (own / "mbti.csv").unlink()
    with pytest.raises(KitError, match=r"mbti.csv is missing; copy it from"):
        load_tables(own)


def test_an_unknown_locale_names_the_shipped_ones() -> None:
    with pytest.raises(KitError, match=r"TABLES = 'mars' .*jp, us"):
        load_tables("mars")


def test_a_table_of_ones_own_may_add_a_condition(own: Path) -> None:
    """Gender by age: any attribute drawn earlier may be named in `given`."""
    ages = [row.item for row in pd.read_csv(own / "age.csv").itertuples()]
    lines = ["given,value,item,percent,status,source,year,note"]
    for k, age in enumerate(ages):
        for item, share in (("Males", 40 + k), ("Females", 60 - k)):
            lines.append(f"age,{age},{item},{share},assumed,authored,2026,")
    (own / "gender.csv").write_text("\n".join(lines), "utf-8")
    tables = load_tables(own)
    assert tables.tables["gender"].parents == ("age",)
    assert tables.tables["gender"].probabilities[3, 0] == pytest.approx(0.43)


@pytest.mark.parametrize("locale", ["jp", "us"])
def test_rules_are_yaml_that_names_known_items_only(locale: str) -> None:
    tables = load_tables(locale)
    rules = yaml.safe_load((tables.folder / "persona_rules.yaml").read_text("utf-8"))
    jobs = set(tables.items("occupation"))
    assert {job for group in rules["groups"].values() for job in group} <= jobs
    assert set(rules["min_age"]) <= jobs


def test_the_fingerprint_changes_with_a_figure(own: Path) -> None:
    before = load_tables(own).fingerprint
    assert before == load_tables("jp").fingerprint
    edit(own / "mbti.csv", "survey figure 1.93", "survey figure 1.94")
    assert load_tables(own).fingerprint != before
