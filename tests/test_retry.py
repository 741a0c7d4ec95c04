"""Failed requests are listed so that they can be asked again alone."""

import json

import pytest
from llm_servers import Host, fault, ok
from test_llm import GOOD, ask, said, text

from personagen_utils.__main__ import main
from personagen_utils.chat import Request
from personagen_utils.errors import KitError
from personagen_utils.llm import open_client
from personagen_utils.retry import load_failures
from personagen_utils.verdicts import Verdict

VERDICT = '{"reason": "Fine.", "label": "natural"}'


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """Run twelve requests at a host that rejects two and answers one with nonsense."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("personagen_utils.llm.STORE", tmp_path / "store.sqlite")
    requests = [text(i) for i in range(6)]
    requests += [
        Request("verdict", one.messages, schema=Verdict, sample=2, meta={"stage": "scene"})
        for one in requests
    ]

    def script(body, number):
        if "number 2." in said(body):
            return fault(400, "not now")
        nonsense = "response_format" in body and "number 4." in said(body)
        return ok("nonsense" if nonsense else GOOD if "response_format" not in body else VERDICT)

    with Host(script) as host:
        monkeypatch.setenv("OPENAI_BASE_URL", host.url)
        options = {"on_error": "continue"}
        client = open_client(
            backend="openai", run_dir=tmp_path / "run", options=options, progress=False
        )
        replies = ask(client, requests)
        assert [reply.match for reply in replies].count("failed") == 3
        host.script = lambda body, n: ok(VERDICT if "response_format" in body else "I am glad.")
        host.bodies.clear()
        yield client, requests, host


def test_the_failed_alone_are_asked_again_and_their_replies_found(failed, tmp_path, capsys):
    client, requests, host = failed
    known = {request.key: request for request in requests}
    for request in load_failures(tmp_path / "run"):
        assert request.body() == known[request.key].body()
        assert request.meta == known[request.key].meta
    assert main(["retry", str(tmp_path / "run")]) == 0
    assert "3 of 3 failed requests are answered now" in capsys.readouterr().out
    assert len(host.bodies) == 3
    assert not (tmp_path / "run" / "failures.jsonl").exists()
    assert {reply.match for reply in ask(client, requests)} == {"live"}
    assert len(host.bodies) == 3
    assert main(["retry", str(tmp_path / "run")]) == 0
    assert "No request has failed" in capsys.readouterr().out


def test_what_fails_again_is_counted_with_its_reason(failed, tmp_path, capsys):
    _, _, host = failed
    host.script = lambda body, n: (
        fault(400, "still not") if "number 2." in said(body) else ok(VERDICT)
    )
    assert main(["retry", str(tmp_path / "run"), "-p", "concurrency=2"]) == 1
    out = capsys.readouterr().out
    assert "1 of 3" in out
    assert "2 still failed: the host rejected the request (HTTP 400: still not)" in out


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sample": 5}, "form of this request has changed"),
        ({"schema": "personagen_utils.gone:Form"}, "no failed request"),
        ({"body": {}}, "no failed request"),
    ],
)
def test_a_line_that_is_no_longer_the_request_is_named(failed, tmp_path, change, reason):
    path = tmp_path / "run" / "failures.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]))
    with pytest.raises(KitError, match=rf"failures\.jsonl:1: .*{reason}"):
        load_failures(tmp_path / "run")
