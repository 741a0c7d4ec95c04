"""What would this person say, were one thing different? A panel to draw, hold, change and read.

Nothing here asks a live host by itself: texts and verdicts come from recordings, exact or nearest
and labelled so, and a live client is asked only when its button is pressed. Where nobody can press
a button (papermill, an export, no ipywidgets) a table of the same person takes the panel's place.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML

from personagen_utils.chat import Reply, Request, read_reply
from personagen_utils.errors import KitError
from personagen_utils.expression import expression_requests, form_problem
from personagen_utils.llm import Client
from personagen_utils.nearest import Assignment
from personagen_utils.replay import load_recordings
from personagen_utils.scenario import compile_rules
from personagen_utils.tables import BACKGROUND, BASE, SCENARIO, STYLE, Tables
from personagen_utils.verdicts import Judge, accept, verdict_request
from personagen_utils.what_if import Drawn, change_person, contradictions

GROUPS = {
    "Base persona": BASE,
    "Background": BACKGROUND,
    "Scene and style": (*SCENARIO, *STYLE),
}
_LEFT = 'style="text-align:left"'


def explore(
    tables: Tables,
    client: Client,
    *,
    seed: int,
    person: int = 0,
    emotions: Sequence[str],
    language: str = "English",
    model: str = "gpt-4.1-mini",
    temperature: float = 1.2,
) -> Any:
    """Return a panel to explore one person, or a small table of the person.

    Parameters
    ----------
    tables : Tables
    client : Client
        Of any backend. A live one is asked only when its button is pressed.
    seed, person : int
        Which person to begin with, as in a study with this seed.
    emotions : sequence of str
        To choose from; the table shows the first three.
    language : str
    model, temperature : str, float
        Of the writer: they name the request that is looked up or sent.

    Returns
    -------
    ipywidgets.VBox or IPython.display.HTML
        The table where ipywidgets is missing or no front end takes input.
    """
    desk = Desk(tables, client, tuple(emotions), language, model, temperature)
    if _somebody_is_there():
        try:
            from personagen_utils.explorer_panel import Panel
        except ModuleNotFoundError as error:
            if error.name != "ipywidgets":
                raise
        else:
            return Panel(desk, seed=seed, person=person).box
    return desk.table(desk.draw(person, seed))


def _somebody_is_there() -> bool:
    """Say whether a front end sent this cell that lets people type: papermill's does not."""
    kernel = getattr(get_ipython(), "kernel", None)
    parent = kernel.get_parent("shell") if kernel else {}
    return bool(parent.get("content", {}).get("allow_stdin", False))


@dataclass(frozen=True)
class Said:
    """One text and where it comes from.

    Attributes
    ----------
    text : str
        Empty if there is none.
    match : str
        "exact", "nearest", "live" or "none".
    origin : str
        The same in a sentence for the reader.
    """

    text: str
    match: str
    origin: str


class Desk:
    """All that the panel and the table ask for, without any widget.

    Parameters
    ----------
    tables : Tables
    client : Client
    emotions : sequence of str
    language, model, temperature : str, str, float
    """

    def __init__(
        self,
        tables: Tables,
        client: Client,
        emotions: Sequence[str],
        language: str,
        model: str,
        temperature: float,
    ) -> None:
        self.tables, self.client, self.emotions = tables, client, emotions
        self.rules = compile_rules(tables)
        self.recordings = client.recordings or load_recordings()
        self.live = client.backend == "openai"
        self.model = model
        self._how = {"language": language, "model": model, "temperature": temperature}

    def draw(self, person: int, seed: int) -> Drawn:
        """Draw a person as a study would, redrawing what a recorded verdict rejects."""
        judge = Judge(_RecordedVerdicts(self.recordings), self.model)
        at = {"upto": 3, "seed": seed, "judge": judge, "rules": self.rules}
        return Drawn.of(_now(accept(self.tables, [person], **at)), seed)

    def change(self, drawn: Drawn, held: Mapping[str, str]) -> dict[str, str]:
        """Return the person with some attributes held."""
        return change_person(self.tables, self.rules, drawn, held)

    def contradictions(self, person: Mapping[str, str]) -> list[str]:
        """Name what does not go together in the person."""
        return contradictions(self.tables, self.rules, person)

    def request(self, person: Mapping[str, str], emotion: str, item: int = 0) -> Request:
        """Return the request of stage 4 for the person and an emotion."""
        scene = pd.DataFrame([{"item": item, **person}])
        return expression_requests(self.tables, scene, [emotion], **self._how)[0]

    def verdict(self, person: Mapping[str, str]) -> str:
        """Return the verdict recorded for exactly this person and scene, in one line."""
        request = verdict_request(self.tables, dict(person), model=self.model)
        (reply,) = _now(_RecordedVerdicts(self.recordings).ask([request]))
        if reply.parsed is None:
            return "not judged (no verdict was recorded for this very person)"
        return f"{reply.parsed.label}: {reply.parsed.reason}"

    def say(self, request: Request) -> Said:
        """Look up what the person says; nothing is sent.

        A new assignment each time: looking at a text does not use it up for the notebook.
        """
        try:
            row, match = Assignment(self.recordings).assign([request])[request.key]
        except KitError as error:
            return Said("", "none", str(error))
        recorded = self.recordings.rows[row]
        text, by = recorded.answer.content or "", f"written by {recorded.answer.model}"
        if match == "exact":
            return Said(text, match, f"Exact match: recorded for this very prompt, {by}.")
        asked, has = request.meta["attributes"], recorded.note.get("attributes") or {}
        differ = [f"{name}: {has.get(name)}" for name in asked if has.get(name) != asked[name]]
        return Said(
            text,
            match,
            f"Nearest match: recorded for somebody else's prompt, {by}; {len(differ)} of "
            f"{len(asked)} attributes differ ({'; '.join(differ)}). It need not fit this person.",
        )

    async def ask(self, request: Request) -> Said:
        """Have the live host write the text, or fetch what it wrote for this prompt before."""
        language = self._how["language"]
        try:
            (reply,) = await self.client.ask(
                [request], check=lambda _, text: form_problem(text, language)
            )
        except KitError as error:
            return Said("", "none", str(error))
        if reply.content is None or reply.match == "failed":
            return Said("", "none", f"No text: {reply.error or 'the host gave no reply'}.")
        return Said(reply.content, "live", f"Live: written by {reply.model} for this very prompt.")

    def table(self, drawn: Drawn) -> HTML:
        """Show a person and the texts of the first three emotions, without widgets."""
        person = drawn.attributes
        who = "<br>".join(
            f"<b>{title}</b>: {html.escape(' · '.join(person[name] for name in names))}"
            for title, names in GROUPS.items()
        )
        rows = [[f'<th scope="col" {_LEFT}>{name}</th>' for name in ("emotion", "text", "match")]]
        for emotion in self.emotions[:3]:
            said = self.say(self.request(person, emotion, drawn.item))
            cells = [html.escape(cell) for cell in (emotion, said.text or said.origin, said.match)]
            rows.append([f'<th scope="row" {_LEFT}>{cells[0]}</th>'])
            rows[-1] += [f"<td {_LEFT}>{cell}</td>" for cell in cells[1:]]
        body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
        return HTML(
            f"<p><b>Person {drawn.item}, seed {drawn.seed}</b> (in JupyterLab this is a panel "
            f"where you change the person)<br>{who}</p><table>{body}</table>"
        )


class _RecordedVerdicts:
    """Gives `accept` the verdicts that were recorded, at once, and no others."""

    backend = "recorded"

    def __init__(self, recordings: Any) -> None:
        self.recordings = recordings

    async def ask(self, requests: Sequence[Request], *, desc: str = "") -> list[Reply]:
        return [self._reply(request) for request in requests]

    def _reply(self, request: Request) -> Reply:
        recorded = self.recordings.get(request.key)
        if recorded is None:
            return Reply(request, backend=self.backend)
        return read_reply(request, recorded.answer, None, match="exact", backend=self.backend)


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that waits for nothing, also inside a running loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the coroutine waits for something")


def start(work: Coroutine[Any, Any, None]) -> asyncio.Task | None:
    """Begin asynchronous work from a widget's callback; without a running loop, finish it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return None
    return loop.create_task(work)
