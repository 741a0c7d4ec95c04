"""A run's corpus as a dataset: it reads back as it was, and its card says what it is."""

import importlib.util
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from personagen_utils import dataset, dataset_card
from personagen_utils.__main__ import main
from personagen_utils.dataset import corpus_frame, export_dataset, split_corpus
from personagen_utils.errors import KitError
from personagen_utils.llm import open_client
from personagen_utils.pipeline import collect
from personagen_utils.prompts import fingerprint
from personagen_utils.runs import open_run
from personagen_utils.tables import PERSONA, SCENE, load_tables
from personagen_utils.verdicts import STAGES

MADE = {
    **{"N_PERSONAS": 12, "SEED": 2025, "TABLES": "jp", "VERDICTS": True, "RARE_KEEP": 1.0},
    **{"RESTRICT": {}, "EMOTIONS": ["joy", "fear"], "DESIGN": "crossed", "LANGUAGE": "English"},
    **{"TEMPERATURE": 1.2, "MODEL": "gpt-4.1-mini"},
}
AWKWARD = [
    'NA, "quoted"',
    "two\nlines\r\nand more",
    "=1+1",
    "None",
    "絵文字 🎉 and | a pipe",
    "null",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a small run as the notebooks would leave it, some of its texts awkward."""
    import asyncio

    folder = tmp_path_factory.mktemp("dataset")
    client = open_client(backend="export", store=folder / "s.sqlite", progress=False)
    found = asyncio.run(collect(MADE | {"N_TWEETS": 1, "TWEET_EMOTIONS": ["joy"]}, client))
    people, texts = found["people"], found["texts"]
    texts["text"] = texts["text"].mask(texts.index < len(AWKWARD), pd.Series(AWKWARD))
    run = open_run(folder / "run")
    hashes = {"tables": load_tables("jp").fingerprint, "prompts": fingerprint("verdict.j2")}
    verdicts = people.assign(redraw=0, label="natural", kept=True, reason="fine", match="exact")
    verdicts = verdicts.assign(model="recorded-llm", key="0" * 32)
    verdicts.loc[0, ["label", "kept"]] = ["implausible", False]
    for stage in STAGES:
        run.save_stage(stage, people, parameters=MADE, hashes=hashes)
        run.save_stage(f"verdicts_{stage}", verdicts.assign(stage=stage), parameters=MADE)
    run.save_stage("expression", texts, parameters=MADE, inputs=["scene"], hashes=hashes)
    secret = pd.DataFrame({"text": ["a gold text that stays at home"], "method": ["Gold"]})
    run.save_stage("corpora", secret, parameters={})
    return run


@pytest.fixture(scope="module")
def exported(run):
    folder = run.folder / "out"
    export_dataset(run.folder, folder, test=0.3)
    return folder


def test_three_formats_read_back_as_the_run_has_it(run, exported):
    corpus = corpus_frame(run)
    assert set(PERSONA + SCENE) <= set(corpus)
    assert corpus["text"].tolist() == run.read_stage("expression")["text"].tolist()
    for split, part in split_corpus(corpus, 0.3, seed=2025).items():
        path = exported / "data" / split
        read = {
            "parquet": pd.read_parquet(f"{path}.parquet"),
            "csv": pd.read_csv(f"{path}.csv", keep_default_na=False),
            "jsonl": pd.read_json(f"{path}.jsonl", lines=True, dtype=False),
        }
        for frame in read.values():
            assert frame["item"].dtype == "int64"
            pd.testing.assert_frame_equal(frame, part, check_dtype=False)


def test_no_persona_scene_is_on_both_sides_and_a_split_is_prefix_stable(run):
    corpus = corpus_frame(run)
    parts = split_corpus(corpus, 0.4, seed=1)
    train, test = (set(parts[name]["item"]) for name in dataset.SPLITS)
    assert train
    assert test
    assert not train & test
    assert sum(map(len, parts.values())) == len(corpus)
    begun = split_corpus(corpus[corpus["item"] < 8], 0.4, seed=1)
    assert set(begun["test"]["item"]) == {item for item in test if item < 8}
    with pytest.raises(KitError, match="share from 0 to below 1"):
        split_corpus(corpus, 1.0, seed=1)
    with pytest.raises(KitError, match="0 would be held out"):
        split_corpus(corpus, 1e-9, seed=1)


def test_card(run, exported):
    card = (exported / "README.md").read_text("utf-8")
    _, front, body = card.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license"] == "mit"
    assert matter["language"] == ["en"]
    assert matter["task_categories"] == ["text-classification"]
    assert {"synthetic", "emotion", "persona"} <= set(matter["tags"])
    assert matter["size_categories"] == ["n<1K"]
    (config,) = matter["configs"]
    for file in config["data_files"]:
        assert (exported / file["path"]).is_file()
    assert "24 short English texts" in body
    assert "| scene | 12 | 11 | 0 | 1 | 0 | 11 |" in body
    assert "not from GPT-4.1-mini" in body
    assert "| `demo.jsonl.gz` | 24 | 0 |" in body
    assert f"`{load_tables('jp').fingerprint}`" in body
    assert "Near-duplicates were not measured" in body
    assert "3 of 36 judged draws were rejected" in body
    assert "| census-2020 |" in body
    assert "2507.13380" in body
    assert all(f"| `{name}` |" in body for name in corpus_frame(run))
    assert "{{" not in body.replace("{{PersonaGen kit developers}}", "")
    assert str(run.folder) not in card
    assert "borrowed" not in body


def test_nothing_but_the_run_s_own_texts_leaves(exported):
    for path in exported.rglob("*"):
        assert path.is_dir() or b"stays at home" not in path.read_bytes()
    names = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    kinds = ("parquet", "csv", "jsonl")
    files = {f"data/{split}.{kind}" for split in ("train", "test") for kind in kinds}
    assert names == {"README.md", *files}


def test_exporting_again_is_the_same_and_leaves_no_old_split(run, tmp_path):
    export_dataset(run.folder, tmp_path, test=0.3)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    export_dataset(run.folder, tmp_path, test=0.3)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    export_dataset(run.folder, tmp_path)
    assert not list(tmp_path.rglob("test.*"))
    assert "divide by `item`" in (tmp_path / "README.md").read_text("utf-8")


def test_borrowed_live_and_measured_texts_are_said(run, tmp_path):
    corpus = corpus_frame(run)
    corpus.loc[:4, "match"] = "nearest"
    corpus.loc[5:, ["match", "model", "backend"]] = ["live", "some-model", "openai"]
    measured = [{"metric": "near-duplicates", "emotion": e, "value": 0.1} for e in ("joy", "fear")]
    rows = [row | {"low": 0.0, "high": 0.2, "n": 12} for row in measured]
    run.save_results("rq1_diversity", rows, inputs=["expression"], parameters={"TEXTS": ""})
    card = dataset_card.render_card(run, corpus, {"train": corpus})
    (run.folder / "results/rq1_diversity.json").unlink()
    assert "**5 of 24 texts are borrowed" in card
    assert "| texts | gpt-4.1-mini | some-model | live | 19 |" in card
    assert "license: other" in card
    assert "the terms of whoever provides that model" in card
    assert "| 10.0 % [0.0, 20.0] |" in card


def test_refusals_are_one_line(run, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# My own")
    with pytest.raises(KitError, match="is not a dataset card of this kit"):
        export_dataset(run.folder, tmp_path)
    with pytest.raises(KitError, match="There is no run folder"):
        export_dataset(tmp_path / "nowhere")
    with pytest.raises(KitError, match="ORGANISATION/NAME"):
        export_dataset(run.folder, push="name")
    with pytest.raises(KitError, match=r"expression\.parquet is missing"):
        export_dataset(open_run(tmp_path / "empty").folder)
    monkeypatch.setattr(dataset_card, "load_tables", lambda name: load_tables("us"))
    with pytest.raises(KitError, match="has changed since"):
        export_dataset(run.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_and_its_help(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main(["dataset", "--run", str(run.folder), "--out", str(out), "--license", "cc0-1.0"]) == 0
    )
    assert "24 texts (train 24) as parquet, csv, jsonl with a card" in capsys.readouterr().out
    assert "license: cc0-1.0" in (out / "README.md").read_text("utf-8")
    with pytest.raises(SystemExit):
        main(["dataset", "--help"])
    assert "example" in capsys.readouterr().out


class Hub:
    """Stands in for huggingface_hub.HfApi and keeps what it was asked."""

    calls: list = []  # noqa: RUF012

    def create_repo(self, repo, **options):
        Hub.calls.append(("create", repo, options))

    def upload_folder(self, **options):
        Hub.calls.append(("upload", options["repo_id"], options))


def test_upload_only_when_asked(run, tmp_path, monkeypatch, capsys):
    hub = pytest.importorskip("huggingface_hub")
    Hub.calls.clear()
    monkeypatch.setattr(hub, "HfApi", Hub)
    words = ["dataset", "--run", str(run.folder), "--out", str(tmp_path)]
    assert main(words) == 0
    assert Hub.calls == []
    assert main([*words, "--push", "org/corpus"]) == 0
    assert [call[:2] for call in Hub.calls] == [("create", "org/corpus"), ("upload", "org/corpus")]
    assert Hub.calls[0][2]["private"] is True
    assert 'load_dataset("org/corpus"' in (tmp_path / "README.md").read_text("utf-8")
    assert "private if it is new" in capsys.readouterr().out


def test_upload_that_cannot_be_is_one_line(run, tmp_path, monkeypatch, capsys):
    words = ["dataset", "--run", str(run.folder), "--out", str(tmp_path), "--push", "org/corpus"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: --push needs huggingface_hub (pip install huggingface_hub)")
    assert said.count("\n") == 1
    monkeypatch.undo()
    if importlib.util.find_spec("huggingface_hub"):
        surroundings = os.environ | {"HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "personagen_utils", *words]
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("error: Not uploaded to org/corpus: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(
    not importlib.util.find_spec("datasets"), reason="the package datasets is not installed"
)
def test_load_dataset_reads_it_back(run, exported, tmp_path):
    code = (
        "import json, sys\nfrom datasets import load_dataset\n"
        "found = load_dataset(sys.argv[1])\n"
        "print(json.dumps({split: part.to_list() for split, part in found.items()}))"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, str(exported)]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    read = json.loads(done.stdout.splitlines()[-1])
    parts = split_corpus(corpus_frame(run), 0.3, seed=2025)
    assert set(read) == set(parts)
    for split, part in parts.items():
        assert read[split] == part.astype(object).to_dict("records")
