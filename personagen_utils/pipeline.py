"""What would a study ask a language model? Its requests without the notebooks around them.

The notebooks call the same functions one by one and show what comes out. Here they run in one go
with a client that sends nothing: to export the requests that nobody has answered yet, to show the
prompts, and to estimate the cost.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from personagen_utils.ablation import RUNGS, rung_requests
from personagen_utils.baselines import (
    SNS_POSTING,
    attrprompt_requests,
    elicit_attributes,
    plain_requests,
    tweet_requests,
    write_priorwork,
)
from personagen_utils.calibration import REGISTER, calibrated_requests, load_register
from personagen_utils.expression import expression_requests, texts_frame
from personagen_utils.human_likeness import judge_requests, planted_controls, second_look
from personagen_utils.llm import Client, Request, open_client
from personagen_utils.paths import shown
from personagen_utils.planted import judge_planted, plant_contradictions
from personagen_utils.recordings import export_requests, import_replies
from personagen_utils.scenario import compile_rules
from personagen_utils.study import find_notebooks
from personagen_utils.tables import BASE, PERSONA, SCENE, Tables, load_tables
from personagen_utils.verdicts import (
    STAGES,
    Accepted,
    Judge,
    accept,
    accept_scenes,
    verdict_request,
)


async def collect(parameters: Mapping[str, Any], client: Client) -> dict[str, pd.DataFrame]:
    """Take a study as far as the replies known to `client` allow.

    Parameters
    ----------
    parameters : mapping
        Of the study; names it does not set have the notebooks' defaults.
    client : Client
        With the backend "export": what it cannot answer stands in its outbox afterwards.

    Returns
    -------
    dict of str to DataFrame
        "people" (persona-scenes accepted so far) and "texts".
    """
    p = _with_defaults(parameters)
    tables = load_tables(p["TABLES"])
    judge = Judge(client if p["VERDICTS"] else None, p["MODEL"], p["RARE_KEEP"], p["QUOTA"])
    seed, n = p["SEED"], p["N_PERSONAS"]
    accepted: list[Accepted] = []
    people = None
    for upto in (1, 2):
        passed = await accept(tables, range(n), upto=upto, seed=seed, judge=judge, start=people)
        people = passed.people
        accepted.append(passed)
    rules = compile_rules(tables, p["RESTRICT"])
    scenes = await accept_scenes(tables, n, seed=seed, judge=judge, rules=rules, start=people)
    accepted.append(scenes)
    if judge.client is not None:
        for stage, passed in zip(STAGES, accepted, strict=True):
            planted = plant_contradictions(tables, passed.people, stage, seed=seed)
            await judge_planted(tables, planted, judge)
    requests = expression_requests(
        tables,
        scenes.people,
        p["EMOTIONS"],
        design=p["DESIGN"],
        language=p["LANGUAGE"],
        model=p["MODEL"],
        temperature=p["TEMPERATURE"],
    )
    texts = texts_frame(await client.ask(requests))
    if len(texts):
        await client.ask(_judge_requests(texts, p))
    await _collect_tweets(p, client, tables, judge, people)
    return {"people": scenes.people, "texts": texts}


async def _collect_tweets(
    p: Mapping[str, Any], client: Client, tables: Tables, judge: Judge, people: pd.DataFrame
) -> None:
    """Take the tweets (notebooks 08, 11 and 12) as far as the known replies allow."""
    n, emotions, seed = p["N_TWEETS"], p["TWEET_EMOTIONS"], p["SEED"]
    how = {"model": p["MODEL"], "temperature": p["TEMPERATURE"]}
    how |= {"seed": seed, "language": p["LANGUAGE"]}
    n_fresh = p["N_FRESH"] * len(emotions)
    rules = compile_rules(tables, SNS_POSTING)
    scenes = await accept_scenes(
        tables, max(n, n_fresh), seed=seed, judge=judge, rules=rules, start=people
    )
    posting = scenes.people
    await client.ask(
        tweet_requests(tables, posting.head(n), emotions, **how)
        + tweet_requests(tables, posting.head(n_fresh), emotions, design="fresh", **how)
        + plain_requests(p["N_PLAIN"], emotions, **how)
    )
    attributes = await elicit_attributes(client, model=p["MODEL"])
    if attributes is not None:
        await client.ask(attrprompt_requests(attributes, n, emotions, **how))
    threshold = p["THRESHOLD"]
    await write_priorwork(client, tables, n, emotions, threshold=threshold, **how)
    for rung in RUNGS:
        few = posting.head(p["N_ABLATION"])
        await client.ask(rung_requests(tables, few, emotions, rung, **how))
    register = load_register(p["REGISTER"] or REGISTER)
    calibrated = {"examples": p["EXAMPLES"]} | how
    writers = posting.head(p["N_CALIBRATED"])
    for shades in (True, False) if p["REGISTER_ALONE"] else (True,):
        await client.ask(
            calibrated_requests(tables, writers, emotions, register, shades=shades, **calibrated)
        )


def _judge_requests(texts: pd.DataFrame, p: Mapping[str, Any]) -> list[Request]:
    rows = planted_controls(texts, seed=p["SEED"])
    requests = judge_requests(rows, model=p["JUDGE_MODEL"])
    if p["SECOND_JUDGE"]:
        same = p["SECOND_JUDGE"] == p["JUDGE_MODEL"]
        looked = second_look(rows, p["N_SECOND"])
        requests += judge_requests(looked, model=p["SECOND_JUDGE"], repeat=int(same))
    return requests


def _with_defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the notebooks' defaults; the first notebook that declares a name decides."""
    defaults: dict[str, Any] = {}
    for notebook in find_notebooks():
        defaults = notebook.defaults | defaults
    return defaults | dict(parameters)


def export(parameters: Mapping[str, Any], out: str | Path) -> str:
    """Write the requests of a study that have no answer yet, as OpenAI Batch input files.

    Parameters
    ----------
    parameters : mapping
        Of the study.
    out : str or Path
        Folder for requests-001.jsonl, ... and meta.jsonl.

    Returns
    -------
    str
        What was written, and what to do next.
    """
    client = open_client(backend="export", progress=False)
    known = asyncio.run(collect(parameters, client))
    folder = Path(out)
    n = len(client.outbox)
    if not n:
        return f"Nothing is missing: {len(known['texts'])} texts and all verdicts are answered."
    export_requests(client.outbox, folder)
    return (
        f"{n} requests without an answer are in {shown(folder.resolve())}. Answer them, put the "
        "replies there as replies-*.jsonl, run `import`, then `export` again: a verdict decides "
        "what is asked next."
    )


def import_(folder: str | Path, recording: str) -> int:
    """Bring answered requests in as data/recordings/<recording>.jsonl.gz.

    Returns
    -------
    int
        0, or 1 if some lines were refused (each is named; the good ones are kept).
    """
    imported = import_replies(Path(folder), name=recording)
    print(imported)
    return int(bool(imported.refused))


def estimate(parameters: Mapping[str, Any]) -> pd.DataFrame:
    """Say what a study would cost a live model, by kind; nothing is sent.

    Recordings tell who passes the verdicts and how long replies are, but spare a live model
    nothing; what a live host has answered before counts as answered. While verdicts are open nobody
    knows who will pass, so every first draw is counted with its three verdicts, its texts, and two
    scores per text where a second judge is asked.

    Returns
    -------
    DataFrame
        From `Client.estimate`.
    """
    client = open_client(backend="export", progress=False)
    asyncio.run(collect(parameters, client))
    if any(request.kind == "verdict" for request in client.outbox.values()):
        client = open_client(backend="export", progress=False)
        known = asyncio.run(collect(dict(parameters) | {"VERDICTS": False}, client))
        p = _with_defaults(parameters)
        for request in [*_verdicts(known["people"], p), *_scores(known["people"], p)]:
            client.asked.setdefault(request.key, request)
    return client.estimate(list(client.asked.values()))


def _verdicts(people: pd.DataFrame, p: Mapping[str, Any]) -> Iterator[Request]:
    tables = load_tables(p["TABLES"])
    for row in people.to_dict("records"):
        for columns in (BASE, PERSONA, (*PERSONA, *SCENE)):
            yield verdict_request(tables, {c: row[c] for c in columns}, model=p["MODEL"])


def _scores(people: pd.DataFrame, p: Mapping[str, Any]) -> list[Request]:
    """Scores of texts that are not written yet, taken to be of a usual length."""
    unwritten = pd.DataFrame(
        [
            {"item": item, "emotion": emotion, "text": f"{item} {emotion} {_USUAL_TEXT}"}
            for item in people["item"]
            for emotion in p["EMOTIONS"]
        ]
    )
    return _judge_requests(unwritten, p)


_USUAL_TEXT = " ".join(["words"] * 25)


def prompts(parameters: Mapping[str, Any], n: int = 1) -> str:
    """Return the first n prompts of each kind exactly as they would be sent.

    Nobody has been asked yet, so every draw counts as accepted, and the judge's prompt stands with
    a stand-in for the text.
    """
    p = _with_defaults(parameters)
    with tempfile.TemporaryDirectory() as empty:  # neither recordings nor replies kept earlier
        client = open_client(
            backend="export", recordings=empty, store=Path(empty, "none.sqlite"), progress=False
        )
        known = asyncio.run(collect(dict(p) | {"VERDICTS": False}, client))
        people = known["people"].head(n)
        requests = [*_verdicts(people, p), *client.outbox.values(), *_scores(people, p)]
    counted: dict[str, int] = {}
    texts = []
    for request in requests:
        kind = f"{request.kind} {request.meta.get('stage') or request.meta.get('method') or ''}"
        counted[kind] = counted.get(kind, 0) + 1
        if counted[kind] <= n:
            body = json.dumps(request.body(), indent=1, ensure_ascii=False)
            texts.append(f"===== {kind.strip()}\n{body}")
    return "\n\n".join(texts)
