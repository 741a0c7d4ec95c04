"""What did the study find? One HTML page from the run folder, without code, ready to forward.

The page needs nothing but itself: pictures are embedded, formulas are MathML, and there are no
scripts, fonts or style sheets from elsewhere.
"""

import base64
import html
import mimetypes
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from bs4 import BeautifulSoup, Tag
from latex2mathml.converter import convert
from nbconvert.filters.ansi import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from personagen_utils import manifest as summary
from personagen_utils.files import redact, write_atomic
from personagen_utils.paths import ROOT
from personagen_utils.runs import Run
from personagen_utils.terminal import duration

RECORDED = (
    "The replies were recorded beforehand: texts, verdicts and scores by one large language model "
    "in answer to the kit's own prompts, in batches, without a sampling temperature, and not by "
    "the model that the study names. Compare these figures with the paper's as a replication with "
    "another writer."
)
"""What must be said wherever recorded replies are used."""

_ASKED = {
    "Texts": "expression",
    "Verdicts, stage 1": "verdicts_base_persona",
    "Verdicts, stage 2": "verdicts_background",
    "Verdicts, stage 3": "verdicts_scene",
}
_FIRST = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]
_NUMBER = re.compile(r"(?:[-+−]?[\d.,]+%?|NaN|nan|None|–|—|)(?:\s*[\[(±].*)?")
_DROPPED = re.compile(r"exercises?\b|imports?\b|set-?up\b", re.IGNORECASE)


@dataclass
class Chapter:
    """One executed notebook as the page shows it."""

    name: str
    title: str
    body: str
    seconds: float | None
    parameters: dict[str, Any]
    findings: str = ""
    older_than: list[str] = field(default_factory=list)

    @property
    def time(self) -> str:
        return duration(self.seconds) if self.seconds is not None else ""


def write_report(run: Run, names: list[str]) -> Path:
    """Write ``report/index.html`` from the executed notebooks of a run folder.

    Parameters
    ----------
    run : Run
    names : list of str
        Notebook names in order; those that were not executed are left out.

    Returns
    -------
    Path
        The page.
    """
    copies = {name: run.folder / "notebooks" / f"{name}.ipynb" for name in names}
    copies = {name: path for name, path in copies.items() if path.exists()}
    manifest = run.manifest
    chapters = []
    for name, path in copies.items():
        nb = nbformat.read(path, as_version=4)
        title, body, findings = render(nb, set(copies))
        noted = manifest["noted"].get("notebooks", {}).get(name, {})
        chapter = Chapter(name, title or name, body, noted.get("seconds"), {}, findings)
        chapter.parameters = nb.metadata.get("papermill", {}).get("parameters", {})
        for item, fingerprint in noted.get("touched", {}).items():
            stage = {**manifest["stages"], **_prefixed(manifest["results"])}.get(item, {})
            if stage.get("fingerprint") != fingerprint:
                chapter.older_than.append(item.removeprefix("results/"))
        chapters.append(chapter)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    template = environment.from_string(Path(__file__).with_name("report.html").read_text("utf-8"))
    page = template.render(
        m=manifest,
        chapters=chapters,
        facts=facts(manifest),
        recorded=RECORDED if "recorded" in manifest["replies"]["backend"] else "",
        not_done=manifest["noted"].get("not_done", {}),
        command=manifest["noted"].get("study", {}).get("command", ""),
    )
    path = run.folder / "report" / "index.html"
    write_atomic(path, redact(page).encode())
    return path


def facts(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the lines of the study's identity card, those that the run knows."""
    asked = {
        "Personas": summary.parameter(manifest, "N_PERSONAS", "N"),
        "Population": summary.parameter(manifest, "TABLES", "LOCALE"),
        "Language of the texts": summary.parameter(manifest, "LANGUAGE", "TEXT_LANGUAGE"),
        "Seed": summary.parameter(manifest, "SEED"),
        "Model asked for": summary.parameter(manifest, "MODEL"),
        "Temperature asked for": summary.parameter(manifest, "TEMPERATURE"),
    }
    found = {name: str(value) for name, value in asked.items() if value is not None}
    for name, stage in _ASKED.items():
        if phrase := summary.origin(manifest, stage):
            found[name] = phrase
    usage = manifest["usage"]
    tokens = [f"{v:,} {k.replace('_', ' ')}" for k, v in usage.items() if "tokens" in k and v]
    if tokens:
        found["Tokens"] = ", ".join(tokens)
    if (cost := usage.get("cost_usd")) is not None:
        found["Cost"] = f"${cost:.2f}"
    return found


def render(nb: nbformat.NotebookNode, chapters: set[str]) -> tuple[str, str, str]:
    """Return a notebook's title, its HTML (prose and outputs, no code, no exercises), its findings.

    Parameters
    ----------
    nb : NotebookNode
        An executed notebook.
    chapters : set of str
        Names of the notebooks on the page, for the links between them.
    """
    parts = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            parts.append(_markdown(cell.source, cell.get("attachments")))
        elif cell.cell_type == "code":
            parts += [_output(output) for output in cell.outputs]
    soup = BeautifulSoup("\n".join(parts), "html.parser")
    title = soup.find("h1")
    name = title.get_text().strip() if title else ""
    if title:
        title.decompose()
    _drop_sections(soup)
    _tidy(soup, chapters)
    heading = soup.find(re.compile("h[2-6]"), string=re.compile("^Findings"))
    found = heading.find_next("ul") if heading else None
    return name, str(soup), str(found or "")


def _drop_sections(soup: BeautifulSoup) -> None:
    """Take out the sections that are for the reader of the notebook, such as its exercises."""
    dropped_at = 0
    for tag in list(soup.children):
        if isinstance(tag, Tag) and re.fullmatch("h[1-6]", tag.name):
            level = int(tag.name[1])
            if not dropped_at or level <= dropped_at:
                dropped_at = level if _DROPPED.match(tag.get_text()) else 0
        if dropped_at:
            tag.extract()


def _markdown(source: str, attachments: Any = None) -> str:
    renderer = _Renderer(escape=False, exclude_anchor_links=True, attachments=attachments or {})
    return MarkdownWithMath(renderer=renderer).render(source)


class _Renderer(IPythonRenderer):
    """nbconvert's renderer of Markdown, with formulas as MathML."""

    def block_math(self, body: str) -> str:
        return f"<p>{_math(body, 'block')}</p>"

    def inline_math(self, body: str) -> str:
        return _math(body, "inline")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


def _math(body: str, display: str) -> str:
    try:
        return convert(body.strip(), display=display)
    except Exception:  # whatever the converter trips over, the reader gets the formula's source
        return f"<code>{html.escape(body)}</code>"


def _output(output: Any) -> str:
    """Return the HTML of one output, the richest form that needs no script."""
    if output.output_type == "stream":
        text = "" if output.name == "stderr" else strip_ansi("".join(output.text)).strip()
        return f"<pre>{html.escape(text)}</pre>" if text else ""
    if output.output_type == "error":
        text = html.escape(f"{output.ename}: {strip_ansi(output.evalue)}")
        return f'<p class="warning">This notebook stopped here. {text}</p>'
    data, metadata = output.data, output.get("metadata", {})
    if any(
        "personagen_header" in of_kind for of_kind in metadata.values()
    ):  # the page's card says it once for all chapters
        return ""
    kind = next((kind for kind in _FIRST if kind in data), None)
    if kind is None or ("application/vnd.jupyter.widget-view+json" in data and "html" not in kind):
        return ""
    content = "".join(data[kind])
    if kind == "text/html":
        return content
    if kind == "text/markdown":
        return _markdown(content)
    if kind == "text/plain":
        return f"<pre>{html.escape(content)}</pre>"
    alt = metadata.get(kind, {}).get("alt") or metadata.get("alt") or ""
    if kind == "image/svg+xml":
        content = base64.b64encode(content.encode()).decode()
    address = f"data:{kind};base64,{content.strip()}"
    return f'<figure><img src="{address}" alt="{html.escape(str(alt))}"></figure>'


def _tidy(soup: BeautifulSoup, chapters: set[str]) -> None:
    """Make a chapter fit the page: no scripts, lower headings, boxed tables, links that hold."""
    for tag in soup(["script", "style", "link"]):
        tag.decompose()
    for level in range(5, 0, -1):
        for tag in soup(f"h{level}"):
            tag.name = f"h{level + 1}"
    for tag in soup("pre"):
        if tag.get_text().lstrip().startswith(("def ", "@")):  # a function shown as the definition
            fold = tag.wrap(soup.new_tag("details"))
            label = soup.new_tag("summary")
            label.string = "The definition in code"
            fold.insert(0, label)
    for tag in soup("table"):
        if tag.get("border"):
            del tag["border"]
        for cell in tag.select("thead th"):
            cell["scope"] = "col"
        for cell in tag.select("tbody th"):
            cell["scope"] = "row"
        _align(tag)
        box = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Table"}
        tag.wrap(soup.new_tag("div", attrs=box))
    for tag in soup("img"):
        _embed(tag)
        if not tag.get("alt"):
            tag["alt"] = _caption(tag)
    for tag in soup("a", href=True):
        stem = Path(tag["href"].partition("#")[0]).stem
        if stem in chapters:
            tag["href"] = f"#{stem}"
        elif not re.match(r"https?://|mailto:", tag["href"]):
            tag.unwrap()  # a file of the repository: the page travels without it


def _align(table: Tag) -> None:
    """Mark the columns of a table that hold words: short ones stay on a line, long ones wrap."""
    rows = [row.find_all(["th", "td"]) for row in table.select("tbody tr")]
    for column in range(max(map(len, rows), default=0)):
        cells = [row[column] for row in rows if len(row) > column]
        said = [cell.get_text().strip() for cell in cells]
        if sum(not _NUMBER.fullmatch(text) for text in said) > len(cells) / 2:
            length = max(map(len, said))
            size = ["long"] if length > 40 else ["short"] if length < 25 else []
            heads = [row.find_all(["th", "td"]) for row in table.select("thead tr")]
            for cell in [*cells, *(row[column] for row in heads if len(row) > column)]:
                cell["class"] = [*cell.get("class", []), "text", *size]


def _embed(tag: Tag) -> None:
    """Put a picture of the repository into the page; take out one that lies elsewhere."""
    source = tag.get("src", "")
    if source.startswith("data:"):
        return
    path = (ROOT / "notebooks" / source).resolve()
    if path.is_file() and path.is_relative_to(ROOT):
        kind = mimetypes.guess_type(path)[0] or "image/png"
        tag["src"] = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    else:
        tag.name, tag.string = "em", tag.get("alt", "")
        tag.attrs = {}


def _caption(tag: Tag) -> str:
    """Return the bold sentence under a figure: its alternative text for want of another."""
    following = tag.find_next("p")
    bold = following.find("strong") if following else None
    return bold.get_text().strip() if bold else "Figure"


def _prefixed(results: dict[str, Any]) -> dict[str, Any]:
    return {f"results/{name}": record for name, record in results.items()}
