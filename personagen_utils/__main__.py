"""The kit's commands: ``python -m personagen_utils --help``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personagen_utils.errors import KitError
from personagen_utils.paths import shown

OVERVIEW = """\
Synthetic emotion text from layered virtual personas, and how good it is.

A study is a parameter file in data/studies; running it executes the notebooks in order and fills
one run folder, data/runs/<study>, with stages, results, figures and an HTML report. The shipped
studies replay recorded replies: no key, no account, no cost.
"""

RUN = """\
Execute the notebooks in order and write the report. Run the same command again after an
interruption, or after changing something: finished notebooks are kept and replies are never
asked for twice. An unknown parameter, a failing cell or a missing input ends the run with one
line that says why.

examples:
  python -m personagen_utils run                                  the demo: 60 people, 420 texts
  python -m personagen_utils run --study paper                    the study in the paper's size
  python -m personagen_utils run -p SEED=1 --out data/runs/seed1  another draw, a folder of its own
  python -m personagen_utils run --only 05 06                     two notebooks of the demo again
  python -m personagen_utils run --study my_study.yaml            your own parameter file
"""

EXPORT = """\
Write the requests that a study would send and has no answer to, as JSONL files in the shape of the
OpenAI Batch API. Answer them anywhere, put the replies into the same folder as replies-*.jsonl,
and bring them in with `import`. A verdict decides what is asked next: repeat until nothing is left.

examples:
  python -m personagen_utils export --study paper --out requests
  python -m personagen_utils import requests --recording my_model
"""

ESTIMATE = """\
Say how many requests a study would send to a live model, how many tokens they hold and what they
would cost. Nothing is sent. Token counts are estimates from the number of characters; replies are
taken to be as long as the recorded ones, or as those that a live model has given.

example:
  python -m personagen_utils estimate --study paper
"""

PROMPTS = """\
Print the prompts of a study exactly as they would be sent. Nothing is sent.

example:
  python -m personagen_utils prompts --study demo -n 2
"""

DATASET = """\
Write the texts of a run as a dataset: Parquet, CSV and JSONL with a dataset card, in a folder that
datasets.load_dataset reads. Nothing is uploaded unless --push names where.

examples:
  python -m personagen_utils dataset                            the demo, in data/runs/demo/dataset
  python -m personagen_utils dataset --run data/runs/paper --test 0.2 --out corpus
  python -m personagen_utils dataset --push my-group/my-corpus  also upload (after `hf auth login`)
"""

SWEEP = """\
Run every combination of some parameters as a study of its own, with its own run folder and reply
store, and put all results into one table with intervals across seeds. Studies that fail are listed;
run the command again to go on with them.

example of a sweep file:
  study: demo                       # what is not varied comes from here
  out: data/runs/seeds              # a folder for all studies
  set: {N_PERSONAS: 30}             # for every study
  vary:
    SEED: [1, 2, 3]
    TABLES: [jp, us]

examples:
  python -m personagen_utils sweep seeds.yaml
  python -m personagen_utils sweep seeds.yaml --scheduler tcp://10.0.0.1:8786  (extra: dask)
"""

RETRY = """\
Ask the requests that failed in a run once more, and no others. They are listed in failures.jsonl of
the run folder; good replies go to the reply store. Uses OPENAI_BASE_URL and OPENAI_API_KEY.

examples:
  python -m personagen_utils retry data/runs/mine
  python -m personagen_utils retry data/runs/mine -p max_usd=0.50 -p tries=5
"""

PUBLISH = """\
For those who work on the kit: copy the outputs of a run's executed notebooks into the notebooks
themselves, without anything that changes from run to run. Refused for a notebook that ran under
other parameters than it shows, or was edited since.

example:
  python -m personagen_utils publish data/runs/paper
"""
COMPARE = """\
Compare the results of a run of the paper study with those that the committed notebooks show, within
what another machine's arithmetic may change. The exit status is 1 if a number differs.

example:
  python -m personagen_utils compare data/runs/paper
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for a failure, 2 for a misuse.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``python -m personagen_utils``.
    """
    arguments = vars(_parser().parse_args(argv))
    command = arguments.pop("command")
    try:
        return command(**arguments) or 0
    except KitError as error:
        from personagen_utils.study import StudyError

        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, StudyError) else 1
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that went away
        print(f"error: {error.strerror or error}: {error.filename or 'a file'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "Stopped. Finished notebooks and every reply received are kept: "
            "run the same command again to continue.",
            file=sys.stderr,
        )
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m personagen_utils", description=OVERVIEW, formatter_class=_Plain
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, function: Any, summary: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=text, formatter_class=_Plain)
        sub.set_defaults(command=function)
        return sub

    run = add("run", _run, "execute a study's notebooks and write its report", RUN)
    _study_options(run)
    run.add_argument("--only", nargs="+", default=[], metavar="NN", help="only these notebooks")
    run.add_argument("--out", metavar="DIR", help="the run folder (default: the study's own)")
    run.add_argument("--force", action="store_true", help="run even what has not changed")
    run.add_argument("--notebooks", type=Path, metavar="DIR", help="another folder of notebooks")

    export = add("export", _export, "write a study's open requests as Batch files", EXPORT)
    _study_options(export)
    export.add_argument("--out", required=True, metavar="DIR", help="the folder for the requests")

    import_ = add("import", _import, "bring answered requests in as a recording", EXPORT)
    import_.add_argument("folder", help="the export folder, with replies-*.jsonl in it")
    import_.add_argument("--recording", required=True, metavar="NAME", help="its name in the kit")

    _study_options(add("estimate", _estimate, "count requests, tokens and dollars", ESTIMATE))
    prompts = add("prompts", _prompts, "print a study's prompts", PROMPTS)
    _study_options(prompts)
    prompts.add_argument("-n", type=int, default=1, help="how many of each kind (default: 1)")

    dataset = add("dataset", _dataset, "write a run's texts as a dataset with its card", DATASET)
    dataset.add_argument("--run", default="data/runs/demo", metavar="DIR", help="the run folder")
    dataset.add_argument("--out", metavar="DIR", help="the folder (default: dataset in the run's)")
    dataset.add_argument(
        "--test", type=float, default=0.0, metavar="SHARE", help="persona-scenes to hold out"
    )
    dataset.add_argument("--license", metavar="ID", help="of the texts, as the hub abbreviates it")
    dataset.add_argument("--push", metavar="ORG/NAME", help="also upload to the Hugging Face hub")

    sweep = add("sweep", _sweep, "run a study under varied parameters", SWEEP)
    sweep.add_argument("file", metavar="SWEEP.yaml", help="the sweep file")
    sweep.add_argument("--workers", type=int, metavar="N", help="studies at once on this machine")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler to use instead")
    sweep.add_argument("--notebooks", type=Path, metavar="DIR", help="another folder of notebooks")

    retry = add("retry", _retry, "ask a run's failed requests again, alone", RETRY)
    retry.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")
    retry.add_argument(
        "-p",
        dest="options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="max_usd, concurrency, on_error, tries or timeout; may be repeated",
    )

    publish = add("publish", _publish, "put a run's outputs into the notebooks", PUBLISH)
    publish.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")
    publish.add_argument("--only", nargs="+", default=[], metavar="NN", help="only these notebooks")

    compare = add("compare", _compare, "hold a run's results against the committed ones", COMPARE)
    compare.add_argument("run_dir", metavar="RUN_DIR", help="the run folder")

    add("recordings", _recordings, "check the shipped recordings", "Check the shipped recordings.")
    return parser


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions and examples."""


def _study_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", default="demo", help="demo, paper or a YAML file")
    parser.add_argument(
        "-p",
        dest="overrides",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of the notebooks; may be repeated",
    )


def _run(study: str, **options: Any) -> None:
    from personagen_utils.runner import run_study

    print(f"Report: {shown(run_study(study, **options))}")


def _parameters(study: str, overrides: Sequence[str]) -> dict[str, Any]:
    from personagen_utils.study import find_notebooks, load_study

    return load_study(study, find_notebooks(), overrides=overrides).parameters


def _export(study: str, overrides: Sequence[str], out: str) -> None:
    parameters = _parameters(study, overrides)
    from personagen_utils import pipeline

    _tell(pipeline.export(parameters, out))


def _import(folder: str, recording: str) -> int:
    from personagen_utils import pipeline

    return _tell(pipeline.import_(folder, recording))


def _estimate(study: str, overrides: Sequence[str]) -> None:
    parameters = _parameters(study, overrides)
    from personagen_utils import pipeline

    table = pipeline.estimate(parameters)
    total = table.select_dtypes("number").sum(skipna=False)
    table.loc[len(table)] = {"kind": "total", "model": "", **total}
    counts = {c: "int64" for c in table if c not in ("kind", "model") and not c.startswith("usd")}
    table = table.astype(counts).round(2)
    print(table.astype(object).where(table.notna(), "no price").to_string(index=False))
    if table["usd_estimate"].isna().any():
        print("Add the model's price to data/prices.csv to see dollars.")


def _prompts(study: str, overrides: Sequence[str], n: int) -> None:
    parameters = _parameters(study, overrides)
    from personagen_utils import pipeline

    _tell(pipeline.prompts(parameters, n))


def _dataset(run: str, license: str | None, **options: Any) -> None:
    from personagen_utils.dataset import export_dataset

    print(export_dataset(run, licence=license, **options))


def _sweep(file: str, **options: Any) -> int:
    from personagen_utils.sweep import run_sweep

    outcomes = run_sweep(file, **options)
    failed = [outcome for outcome in outcomes if outcome.reason]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} studies are done.")
    for outcome in failed:
        print(f"  {outcome.name}: {outcome.reason}", file=sys.stderr)
    return int(bool(failed))


def _retry(run_dir: str, options: Sequence[str]) -> int:
    import yaml

    from personagen_utils.retry import retry

    pairs = (option.partition("=") for option in options)
    said, failed = retry(run_dir, options={name: yaml.safe_load(text) for name, _, text in pairs})
    print(said)
    return int(failed > 0)


def _publish(run_dir: str, only: Sequence[str]) -> None:
    from personagen_utils.publish import publish

    print("Outputs taken over:", ", ".join(publish(run_dir, only)))


def _compare(run_dir: str) -> int:
    from personagen_utils.committed import compare

    differences = compare(run_dir)
    if differences.empty:
        print("All results agree with the committed ones.")
        return 0
    print(f"{len(differences)} numbers differ from the committed ones:")
    for result, part in differences.groupby("result"):
        print(f"{result}\n{part.drop(columns='result').dropna(axis=1, how='all').to_string()}")
    return 1


def _recordings() -> None:
    from personagen_utils.recording_report import recording_report

    _tell(recording_report())


def _tell(answer: Any) -> int:
    """Print what a command has to say; a whole number is its exit status instead."""
    if isinstance(answer, int):
        return answer
    if answer is not None:
        print(answer.to_string(index=False) if hasattr(answer, "to_string") else answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
