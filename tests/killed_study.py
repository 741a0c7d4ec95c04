"""A study in miniature that a test can kill at any moment: three stages of people, then texts."""

import asyncio
import hashlib
import json
import os
from pathlib import Path

from llm_servers import Answer, ok

from personagen_utils.expression import EMOTIONS, express, expression_requests
from personagen_utils.llm import open_client
from personagen_utils.runs import open_run
from personagen_utils.scenario import compile_rules
from personagen_utils.tables import load_tables
from personagen_utils.verdicts import LABELS, Judge, accept, accept_scenes

STAGES = ("base_persona", "background", "scene", "verdicts_scene", "expression")


def answer(body: dict, number: int) -> Answer:
    """Answer by the prompt alone: every fifth verdict is implausible, every seventh malformed."""
    prompt = body["messages"][-1]["content"]
    draw = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    if "response_format" not in body:
        return ok(f"I counted {draw % 10**9} reasons, and I smile.")
    if draw % 7 == 0 and "JSON schema" not in prompt:
        return ok("Well, I would say it depends.")
    label = LABELS[2 if draw % 5 == 0 else draw % 2]
    return ok(json.dumps({"reason": f"Reason {draw % 1000}.", "label": label}))


def study(folder: str, url: str) -> None:
    """Run the study in a folder, or go on with it where it stopped."""
    os.environ["OPENAI_BASE_URL"] = url
    run, tables = open_run(folder), load_tables("jp")
    store = Path(folder) / "responses.sqlite"
    client = open_client(
        backend="openai",
        run_dir=folder,
        store=store,
        concurrency=4,
        max_usd=1.0,
        progress=False,
    )
    judge, n, seed = Judge(client), 12, 7

    async def stages() -> None:
        people = None
        for number, name in enumerate(("base_persona", "background"), start=1):
            people = (
                await accept(tables, range(n), upto=number, seed=seed, judge=judge, start=people)
            ).people
            run.save_stage(name, people, parameters={"SEED": seed})
        scenes = await accept_scenes(
            tables, n, seed=seed, judge=judge, rules=compile_rules(tables), start=people
        )
        run.save_stage("scene", scenes.people, parameters={"SEED": seed})
        run.save_stage("verdicts_scene", scenes.verdicts, parameters={"SEED": seed})
        requests = expression_requests(tables, scenes.people, EMOTIONS)
        run.save_stage("expression", await express(client, requests), parameters={"SEED": seed})

    asyncio.run(stages())
    (Path(folder) / "done").touch()
