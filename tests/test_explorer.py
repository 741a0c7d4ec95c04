"""The persona explorer: what it redraws, what it says, and that it never asks by itself."""

import asyncio
import builtins
import dataclasses
import json

import httpx2
import pytest

from personagen_utils import explorer, what_if
from personagen_utils.expression import EMOTIONS
from personagen_utils.llm import open_client
from personagen_utils.scenario import compile_rules
from personagen_utils.tables import PERSONA, SCENE, load_tables
from personagen_utils.verdicts import Judge, accept

TABLES = load_tables("jp")
RULES = compile_rules(TABLES)
PEOPLE = asyncio.run(accept(TABLES, range(60), upto=3, seed=7, judge=Judge(None), rules=RULES))


def drawn(k):
    return what_if.Drawn.of(dataclasses.replace(PEOPLE, people=PEOPLE.people.iloc[[k]]), 7)


@pytest.fixture
def client(tmp_path):
    return open_client(store=tmp_path / "store.sqlite", progress=False)


@pytest.fixture
def panel(client):
    from personagen_utils.explorer_panel import Panel

    return Panel(desk(client), seed=2025, person=0)


def desk(client):
    return explorer.Desk(TABLES, client, EMOTIONS, "English", "gpt-4.1-mini", 1.2)


def test_nothing_held_is_the_person_as_drawn_and_breaks_no_rule():
    for k in range(len(PEOPLE.people)):
        assert what_if.change_person(TABLES, RULES, drawn(k), {}) == drawn(k).attributes
        assert what_if.contradictions(TABLES, RULES, drawn(k).attributes) == []


def test_a_change_redraws_only_what_depends_on_it():
    depends = {"age": {"occupation", "education", "family_structure", "religion", "belief"}}
    depends["age"] |= {"income", *SCENE}
    depends |= {"residence": {"geographic_location", "belief"}, "gender": set(), "mbti": set()}
    for k in range(8):
        for name, may in depends.items():
            for value in TABLES.items(name)[:4]:
                held = {name: value}
                person = what_if.change_person(TABLES, RULES, drawn(k), held)
                moved = {n for n in person if person[n] != drawn(k).attributes[n]} - {name}
                assert moved <= may
                assert what_if.contradictions(TABLES, RULES, person) == []


def test_a_scene_adapts_to_what_is_held():
    for k in range(10):
        for name in SCENE:
            for value in TABLES.items(name)[:3]:
                person = what_if.change_person(TABLES, RULES, drawn(k), {name: value})
                assert person[name] == value
                broken = what_if.contradictions(TABLES, RULES, person)
                closed = not RULES.person[name][
                    tuple(TABLES.items(n).index(person[n]) for n in what_if.CLASS)
                ][TABLES.items(name).index(value)]
                assert not broken or closed or "occupation" in broken[0]


def test_contradictions_are_named_with_the_way_out():
    held = {"age": "Children", "occupation": "Lawyers"}
    person = what_if.change_person(TABLES, RULES, drawn(5), held)
    said = what_if.contradictions(TABLES, RULES, person)
    assert said[0].startswith(
        'occupation "Lawyers" does not go with age "Children" (persona_rules.yaml); '
        "it goes with Young Adults,"
    )
    held = {"location": "Hospital ward", "activity": "Cooking or housework"}
    person = what_if.change_person(TABLES, RULES, drawn(5), held)
    (said,) = what_if.contradictions(TABLES, RULES, person)
    assert 'location "Hospital ward" does not go with activity "Cooking or housework"' in said


def test_panel_begins_with_the_person_of_the_study(panel):
    assert panel.said.match == "exact"
    assert "Exact match: recorded for this very prompt, written by recorded-llm" in panel.text.value
    assert "natural" in panel.notes.value or "rare" in panel.notes.value
    assert "Emotion: joy" in panel.prompt.value
    assert "Contradiction" not in panel.notes.value


def test_panel_follows_the_reader(panel):
    before = dict(panel.drawn.attributes)
    panel.emotion.value = "fear"
    assert "Emotion: fear" in panel.prompt.value
    assert panel.said.match == "exact"

    panel.values["age"].value = "Children"
    assert panel.held == {"age": "Children"}
    assert panel.locks["age"].value
    assert panel.values["occupation"].value == "Elementary School Students"
    assert f"occupation (was {before['occupation']})" in panel.notes.value
    assert "Age: Children" in panel.prompt.value
    assert panel.said.match == "nearest"
    assert "Nearest match: recorded for somebody else" in panel.text.value
    assert "attributes differ (" in panel.text.value

    panel.values["occupation"].value = "Lawyers"
    assert "Contradiction" in panel.notes.value
    assert "Lawyers" in panel.prompt.value

    panel.locks["occupation"].value = False
    assert panel.values["occupation"].value == "Elementary School Students"
    assert "Contradiction" not in panel.notes.value

    panel.next.click()
    assert panel.number.value == panel.drawn.item == 1
    assert panel.values["age"].value == "Children"  # held for the next person too
    panel.reset.click()
    assert {n: w.value for n, w in panel.values.items()} == panel.drawn.attributes
    assert panel.said.match == "exact"
    panel.locks["gender"].value = True
    panel.seed.value = 1
    assert panel.values["gender"].value == panel.held["gender"]
    assert panel.drawn.seed == 1


def test_looking_uses_nothing_up(panel, client):
    for age in TABLES.items("age") * 12:  # more texts of one emotion than were recorded
        panel.values["age"].value = age
        assert panel.said.match in ("exact", "nearest")
    assert client.usage.matches == {}
    assert not client._assignment._used.any()


def test_a_recorded_rejection_is_redrawn_as_in_the_study(client):
    accepted = accept(TABLES, range(60), upto=3, seed=2025, judge=Judge(client), rules=RULES)
    people = asyncio.run(accepted).people.set_index("item")
    assert people[["redraws_2", "redraws_3"]].to_numpy().any()
    for item, row in people[[*PERSONA, *SCENE]].iterrows():
        assert desk(client).draw(item, 2025).attributes == row.to_dict()


def test_texts_are_escaped_and_a_language_without_recordings_is_said(client):
    from personagen_utils.explorer_panel import Panel, _text

    assert "<b>" not in _text(explorer.Said("<b>x</b>", "exact", "y"))
    elvish = explorer.Desk(TABLES, client, EMOTIONS, "Elvish", "gpt-4.1-mini", 1.2)
    panel = Panel(elvish, seed=2025, person=0)
    assert panel.said.text == ""
    assert "No recorded text is left for method PersonaGen, language Elvish" in panel.text.value


class Host(httpx2.AsyncBaseTransport):
    def __init__(self):
        self.asked = []

    async def handle_async_request(self, request):
        self.asked.append(json.loads(request.content))
        message = {"role": "assistant", "content": "Live from here!"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m-live"}
        return httpx2.Response(200, json=body | {"choices": [choice]}, request=request)


def test_a_live_host_is_asked_by_the_button_alone(tmp_path, monkeypatch):
    from personagen_utils.explorer_panel import Panel

    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    host = Host()
    store = tmp_path / "store.sqlite"
    live = open_client(backend="openai", store=store, transport=host, progress=False)
    panel = Panel(desk(live), seed=2025, person=0)
    panel.values["age"].value = "Children"
    panel.emotion.value = "anger"
    explorer.explore(TABLES, live, seed=2025, emotions=EMOTIONS)
    assert host.asked == []
    assert panel.said.match == "nearest"

    panel.ask.click()
    assert len(host.asked) == 1
    assert host.asked[0]["messages"] == list(panel.request.messages)
    assert panel.said.match == "live"
    assert "Live from here!" in panel.text.value
    assert "written by m-live" in panel.text.value
    panel.ask.click()  # the store answers a second time
    assert len(host.asked) == 1
    panel.emotion.value = "joy"
    assert panel.said.match != "live"

    async def change_while_waiting():
        panel.ask.click()
        panel.emotion.value = "fear"
        await asyncio.sleep(0.5)

    asyncio.run(change_while_waiting())
    assert len(host.asked) == 2
    assert panel.said.match != "live"  # the reply was to a question no longer on screen
    assert not panel.ask.disabled


def test_no_button_without_a_live_client(panel):
    assert panel.ask not in panel.box.children[0].children


@pytest.mark.parametrize("there", [False, True])
def test_static_table_where_nobody_or_no_widget_is_there(there, client, monkeypatch):
    monkeypatch.setattr(explorer, "_somebody_is_there", lambda: there)
    kept = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("ipywidgets"):
            raise ModuleNotFoundError("No module named 'ipywidgets'", name="ipywidgets")
        return kept(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(__import__("sys").modules, "personagen_utils.explorer_panel", raising=False)
    shown = explorer.explore(TABLES, client, seed=2025, person=3, emotions=EMOTIONS).data
    assert "Person 3, seed 2025" in shown
    assert shown.count('scope="row"') == 3
    assert shown.count(">exact<") == 3


def test_panel_where_somebody_is(client, monkeypatch):
    monkeypatch.setattr(explorer, "_somebody_is_there", lambda: True)
    shown = explorer.explore(TABLES, client, seed=2025, emotions=EMOTIONS)
    assert type(shown).__name__ == "VBox"


def test_papermill_gets_the_table(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    import papermill

    source = (
        "from personagen_utils.explorer import explore\n"
        "from personagen_utils.llm import open_client\n"
        "from personagen_utils.tables import load_tables\n"
        f"client = open_client(store={str(tmp_path / 's.sqlite')!r})\n"
        "explore(load_tables('jp'), client, seed=2025, emotions=['joy', 'fear'])"
    )
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    done = papermill.execute_notebook(nb, None, kernel_name="python3", progress_bar=False)
    (output,) = done.cells[0].outputs
    assert set(output.data) == {"text/html", "text/plain"}
    assert ">exact<" in output.data["text/html"]
