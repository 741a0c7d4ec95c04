"""A real local host, ``transformers serve``, with a model made on the spot that talks nonsense."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from personagen_utils.llm import Request, open_client

pytest.importorskip("fastapi", reason="the test extra installs what transformers serve needs")
pytest.importorskip("uvicorn")

WORDS = ["joy", "harbour", "tea", "rain", "market", "sister", "window", "morning", "letter"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str


def make_model(folder: Path) -> None:
    """Write a model with random weights that knows a dozen words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<eos>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<eos>",
        pad_token="<eos>",
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.do_sample = True  # without it the host ignores the temperature
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Serve the model; give the address and the model's name."""
    folder = tmp_path_factory.mktemp("host")
    make_model(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve"]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(folder / "model"), *options],
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", str(folder / "model")
    finally:
        process.terminate()
        process.wait()


def test_nonsense_is_reported_after_bounded_tries_and_texts_are_kept(served, tmp_path, monkeypatch):
    url, model = served
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    messages = tuple({"role": "user", "content": f"joy tea {word}"} for word in WORDS[:6])
    texts = [Request("text", (one,), model=model, temperature=1.2) for one in messages]
    verdicts = [
        Request("verdict", (one,), model=model, schema=Verdict, max_tokens=20) for one in messages
    ]
    client = open_client(
        backend="openai",
        store=tmp_path / "store.sqlite",
        run_dir=tmp_path,
        tries=5,  # one nonsense text in ten is empty
        progress=False,
    )
    replies = asyncio.run(client.ask(texts + verdicts))
    assert {reply.match for reply in replies[:6]} == {"live"}
    assert all(set(reply.content.split()) <= set(WORDS) for reply in replies[:6])
    for reply in replies[6:]:
        assert (reply.match, reply.parsed, reply.attempts) == ("failed", None, client.tries)
        assert "Invalid JSON" in reply.error or "cut off" in reply.error or "empty" in reply.error
    assert len((tmp_path / "failures.jsonl").read_text().splitlines()) == 6
    assert client.usage.retries == 0
    # Again: the texts come from the store, only the failed are asked.
    sent = client.usage.sent
    again = asyncio.run(client.ask(texts + verdicts))
    assert [reply.content for reply in again[:6]] == [reply.content for reply in replies[:6]]
    assert client.usage.sent - sent == 6 * client.tries
