"""A host with a Batch API on a local port: files, batches, and a script that answers each line."""

import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BatchHost:
    """Implements /files and /batches; use it as a context.

    Parameters
    ----------
    script : callable
        As in `llm_servers.Scripted`; gets the body of a line and its number over all batches.

    Attributes
    ----------
    files, batches : dict
        By id, as the API shows them; `inputs` holds the request lines of each batch.
    refuse : callable or None
        Given method and path, returns (status, body) in place of an answer, or "drop" to do the
        work and then drop the connection.
    """

    def __init__(self, script: Callable[[dict, int], tuple[int, dict, Any]]) -> None:
        self.script, self.refuse = script, None
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.inputs: dict[str, list[dict]] = {}
        self.answered = 0
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host._handle(self, b"")

            def do_POST(self) -> None:
                host._handle(self, self.rfile.read(int(self.headers["content-length"])))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "BatchHost":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def finish(
        self, *, status: str = "completed", share: float = 1.0, garble: Callable | None = None
    ) -> None:
        """Answer the open batches; only the first `share` of the lines when one expires."""
        for name, batch in self.batches.items():
            if batch["status"] != "validating":
                continue
            lines = self.inputs[name]
            done = lines[: round(share * len(lines))]
            out = {"output": [], "error": []}
            for line in done:
                self.answered += 1
                code, _, body = self.script(line["body"], self.answered)
                row = {"custom_id": line["custom_id"], "error": None}
                row["response"] = {"status_code": code, "request_id": "r", "body": body}
                out["output" if code == 200 else "error"].append(row)
            expired = {"code": "batch_expired", "message": "This request could not be executed."}
            for line in lines[len(done) :]:
                row = {"custom_id": line["custom_id"], "response": None, "error": expired}
                out["error"].append(row)
            for kind, rows in out.items():
                if rows and status != "failed":
                    data = "".join(json.dumps(row) + "\n" for row in reversed(rows)).encode()
                    file = f"file-{kind}-{name}"
                    self.files[file] = garble(data) if garble else data
                    batch[f"{kind}_file_id"] = file
            batch["status"] = status
            if status == "failed":
                batch["errors"] = {"data": [{"code": "x", "message": "Enqueued token limit"}]}
            good = len(out["output"])
            batch["request_counts"] = {
                "total": len(lines),
                "completed": good,
                "failed": len(lines) - good,
            }

    def _handle(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        method, path = request.command, request.path.split("?")[0].removeprefix("/v1")
        refused = self.refuse(method, path) if self.refuse else None
        status, body = refused if isinstance(refused, tuple) else self._answer(method, path, data)
        if refused == "drop":
            request.close_connection = True
            return
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _answer(self, method: str, path: str, data: bytes) -> tuple[int, Any]:
        if (method, path) == ("POST", "/files"):
            part = re.search(rb'filename="requests\.jsonl".*?\r\n\r\n(.*?)\r\n--', data, re.DOTALL)
            name = f"file-{len(self.files) + 1}"
            self.files[name] = part[1]
            return 200, {"id": name, "object": "file", "purpose": "batch", "bytes": len(part[1])}
        if (method, path) == ("POST", "/batches"):
            asked = json.loads(data)
            name = f"batch_{len(self.batches) + 1}"
            lines = self.files[asked["input_file_id"]].splitlines()
            self.inputs[name] = [json.loads(line) for line in lines]
            self.batches[name] = asked | {
                "id": name,
                "object": "batch",
                "status": "validating",
                "created_at": int(time.time()),
            }
            return 200, self.batches[name]
        if (method, path) == ("GET", "/batches"):
            rows = list(reversed(self.batches.values()))
            return 200, {"object": "list", "data": rows, "has_more": False}
        if found := re.fullmatch(r"/batches/(\w+)", path):
            batch = self.batches.get(found[1])
            return (200, batch) if batch else (404, {"error": {"message": "no such batch"}})
        if found := re.fullmatch(r"/files/([\w-]+)/content", path):
            return 200, self.files[found[1]]
        return 404, {"error": {"message": "no such address"}}
