"""The panel of the persona explorer: widgets, and what happens when one of them is touched."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import ipywidgets as widgets

from personagen_utils.chat import Request
from personagen_utils.errors import KitError
from personagen_utils.explorer import GROUPS, Desk, Said, start
from personagen_utils.tables import PERSONA, SCENE

_WIDE = widgets.Layout(width="auto")


class Panel:
    """A person on screen. Show `box`.

    Choosing a value holds it; the lock beside it holds the value shown, also for the next person,
    or lets it go. Everything else follows from the person's number, the seed and what is held.

    Parameters
    ----------
    desk : Desk
    seed, person : int
    """

    def __init__(self, desk: Desk, *, seed: int, person: int) -> None:
        self.desk, self.held = desk, {}
        self._quiet = False  # while the panel itself sets values
        self.drawn = desk.draw(person, seed)
        self.number = _number("Person", person)
        self.seed = _number("Seed", seed)
        self.emotion = widgets.Dropdown(
            options=desk.emotions,
            description="Emotion",
            layout=widgets.Layout(width="220px"),
            style={"description_width": "60px"},
        )
        self.next = _button("Next person", "The next number, same seed")
        self.reset = _button("Let all go", "Unlock every attribute: back to the person as drawn")
        self.ask = _button("Ask the live model", "Sends one request, which may cost money")
        self.values = {
            name: widgets.Dropdown(
                options=desk.tables.items(name),
                value=self.drawn.attributes[name],
                description=_words(name),
                layout=widgets.Layout(flex="1 1 auto", width="auto", min_width="150px"),
                style={"description_width": "92px"},
            )
            for name in (*PERSONA, *SCENE)
        }
        self.locks = {
            name: widgets.ToggleButton(
                icon="unlock",
                tooltip=f"Hold {_words(name)}",
                layout=widgets.Layout(width="34px", flex="0 0 34px", padding="0 0 0 4px"),
            )
            for name in self.values
        }
        self.text, self.notes, self.prompt = (widgets.HTML(layout=_WIDE) for _ in range(3))
        self.box = self._arrange()
        self._listen()
        self.show()

    def show(self) -> None:
        """Bring the whole panel in line with the person, the seed and what is held."""
        person = self.desk.change(self.drawn, self.held)
        self._quiet = True
        for name, widget in self.values.items():
            widget.value = person[name]
            self.locks[name].value = name in self.held
            self.locks[name].icon = "lock" if name in self.held else "unlock"
        self._quiet = False
        self.request = self.desk.request(person, self.emotion.value, self.drawn.item)
        self.said = self.desk.say(self.request)
        redrawn = [
            f"{_words(name)} (was {self.drawn.attributes[name]})"
            for name in self.values
            if name not in self.held and person[name] != self.drawn.attributes[name]
        ]
        self.notes.value = _notes(
            redrawn, self.desk.contradictions(person), self.desk.verdict(person)
        )
        self.text.value = _text(self.said)
        self.prompt.value = "".join(
            f"<b>{message['role']}</b><pre style='white-space:pre-wrap;word-break:normal'>"
            f"{html.escape(message['content'])}</pre>"
            for message in self.request.messages
        )

    def _listen(self) -> None:
        for name in self.values:
            self.values[name].observe(self._unless_quiet(self._choose(name)), "value")
            self.locks[name].observe(self._unless_quiet(self._lock(name)), "value")
        for widget in (self.number, self.seed):
            widget.observe(self._unless_quiet(self._redraw), "value")
        self.emotion.observe(self._unless_quiet(self.show), "value")
        self.next.on_click(lambda _: setattr(self.number, "value", self.number.value + 1))
        self.reset.on_click(lambda _: self._let_go())
        self.ask.on_click(lambda _: self._start())

    def _unless_quiet(self, action: Callable[[], None]) -> Callable[[object], None]:
        return lambda change: None if self._quiet else action()

    def _choose(self, name: str) -> Callable[[], None]:
        def chosen() -> None:
            self.held[name] = self.values[name].value
            self.show()

        return chosen

    def _lock(self, name: str) -> Callable[[], None]:
        def locked() -> None:
            if self.locks[name].value:
                self.held[name] = self.values[name].value
            else:
                del self.held[name]
            self.show()

        return locked

    def _redraw(self) -> None:
        try:
            self.drawn = self.desk.draw(self.number.value, self.seed.value)
        except KitError as error:
            self.text.value = _text(Said("", "none", str(error)))
        else:
            self.show()

    def _let_go(self) -> None:
        self.held.clear()
        self.show()

    def _start(self) -> None:
        self.ask.disabled = True
        self._task = start(self._ask(self.request))  # kept, or the loop may forget it

    async def _ask(self, request: Request) -> None:
        """Ask the live host, and show the reply if its prompt is still on screen."""
        try:
            said = await self.desk.ask(request)
        finally:
            self.ask.disabled = False
        if request.key == self.request.key:
            self.said = said
            self.text.value = _text(said)

    def _arrange(self) -> widgets.VBox:
        controls: list[widgets.Widget] = [self.number, self.seed, self.next, self.reset]
        top = _row([*controls, self.emotion, *([self.ask] if self.desk.live else [])])
        columns = []
        for title, names in GROUPS.items():
            rows = [widgets.HBox([self.values[name], self.locks[name]]) for name in names]
            layout = widgets.Layout(flex="1 1 300px", min_width="280px", margin="0 16px 8px 0")
            columns.append(widgets.VBox([widgets.HTML(f"<b>{title}</b>"), *rows], layout=layout))
        prompt = widgets.Accordion([self.prompt], titles=("The prompt of stage 4",), layout=_WIDE)
        return widgets.VBox([top, _row(columns), self.text, self.notes, prompt])


def _row(children: Sequence[widgets.Widget]) -> widgets.HBox:
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap", width="100%"))


def _button(text: str, tooltip: str) -> widgets.Button:
    return widgets.Button(description=text, tooltip=tooltip, layout=widgets.Layout(width="auto"))


def _number(text: str, value: int) -> widgets.BoundedIntText:
    return widgets.BoundedIntText(
        value=value,
        min=0,
        max=2**31 - 1,
        description=text,
        layout=widgets.Layout(width="150px"),
        style={"description_width": "50px"},
    )


def _words(name: str) -> str:
    """Return the name of an attribute as the panel shows it."""
    short = {"mbti": "MBTI", "geographic_location": "location type", "location": "place"}
    return short.get(name, name.replace("family_structure", "family").replace("_", " "))


def _text(said: Said) -> str:
    quote = f"<p style='font-size:1.25em;margin:6px 0'>{html.escape(said.text)}</p>"
    return f"{quote if said.text else ''}<p style='margin:0'>{html.escape(said.origin)}</p>"


def _notes(redrawn: Sequence[str], broken: Sequence[str], verdict: str) -> str:
    """Return what changed and what does not go together; words, not colours, carry it."""
    lines = [f"<b>Verdict on the scene</b>: {html.escape(verdict)}"]
    if redrawn:
        lines.append(f"<b>Re-drawn because of it</b>: {html.escape('; '.join(redrawn))}")
    lines += [f"<b>⚠ Contradiction</b>: {html.escape(line)}" for line in broken]
    return "<br>".join(lines)
