"""Draws follow their tables, and person i depends on the seed and on i alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personagen_utils.base_persona import age_years, draw_base_personas
from personagen_utils.population import anchors, draw_population, whitelist_violations
from personagen_utils.sampling import draw_codes, uniforms
from personagen_utils.scenario import broken_constraints, compile_rules
from personagen_utils.tables import Table, load_tables

TABLES = load_tables("jp")


@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.integers(1, 9),
    items=st.lists(st.integers(0, 5_000), min_size=1, max_size=20, unique=True),
)
@settings(max_examples=40, deadline=None)
def test_a_persons_numbers_do_not_depend_on_the_others(
    seed: int, width: int, items: list[int]
) -> None:
    together = uniforms(seed, (1, 0, 0), np.array(items), width)
    alone = np.vstack([uniforms(seed, (1, 0, 0), np.array([item]), width) for item in items])
    np.testing.assert_array_equal(together, alone)
    block = uniforms(seed, (1, 0, 0), np.arange(max(items) + 1), width)
    np.testing.assert_array_equal(together, block[items])


def test_streams_of_stages_restarts_and_redraws_differ() -> None:
    items = np.arange(50)
    streams = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (11, 0, 0)]
    first = [uniforms(7, stream, items, 1)[:, 0].tobytes() for stream in streams]
    assert len(set(first)) == len(streams)


def test_numbers_are_uniform() -> None:
    u = uniforms(3, (1, 0, 0), np.arange(20_000), 3)
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.02
    assert u.min() >= 0
    assert u.max() < 1


@given(
    weights=st.lists(st.integers(0, 5), min_size=2, max_size=6).filter(sum),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_is_the_inverse_of_the_cumulative_shares(weights: list[int], u: float) -> None:
    p = np.array(weights) / sum(weights)
    table = Table("x", tuple(map(str, range(len(p)))), (), p)
    code = int(draw_codes(table, {}, np.array([u]))[0])
    assert p[code] > 0, "an item without a share was drawn"
    below = np.cumsum(p)[code] - p[code]
    assert below - 1e-9 <= u <= below + p[code] + 1e-9


def test_a_conditional_draw_reads_its_own_row() -> None:
    p = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    table = Table("x", ("a", "b", "c"), ("parent",), p)
    codes = draw_codes(table, {"parent": np.array([0, 1, 1, 0])}, np.array([0.9, 0.4, 0.6, 0.1]))
    assert codes.tolist() == [0, 1, 2, 0]


def test_the_demo_is_the_beginning_of_the_paper_study() -> None:
    small = draw_population(TABLES, 60, seed=2025, rules=compile_rules(TABLES))
    large = draw_population(TABLES, 500, seed=2025, rules=compile_rules(TABLES))
    pd.testing.assert_frame_equal(small, large.head(60))


@pytest.mark.parametrize("locale", ["jp", "us"])
def test_two_hundred_thousand_people_keep_anchors_whitelist_and_constraints(locale: str) -> None:
    tables = load_tables(locale)
    rules = compile_rules(tables)
    people = draw_population(tables, 200_000, seed=11, rules=rules)
    if locale == "jp":
        drawn = anchors(people, tables)
        assert len(drawn) == 8
        assert (drawn["realised"] - drawn["published"]).abs().max() < 0.3
    assert not whitelist_violations(people, tables).any()
    assert not broken_constraints(rules, people).any()
    assert people.notna().all().all()
    for name in ("occupation", "education", "belief", "income"):
        target = tables.margin(name)
        realised = people[name].value_counts(normalize=True).reindex(target.index)
        assert (realised - target).abs().max() < 0.005, name


def test_age_in_years_respects_the_youngest_age_of_the_occupation() -> None:
    assert age_years(TABLES, "Young Adults", "Office Workers") == "18-35"
    assert age_years(TABLES, "Young Adults", "Doctors") == "24-35"
    assert age_years(TABLES, "Seniors", "Doctors") == "65-74"


def test_another_seed_draws_other_people() -> None:
    items = np.arange(100)
    one, two = (draw_base_personas(TABLES, items, seed=seed).astype(str) for seed in (1, 2))
    assert not one.equals(two)
