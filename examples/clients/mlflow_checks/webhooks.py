"""Webhooks: making, listing, changing and removing them, and what a receiver is sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mlflow.entities.webhook import WebhookStatus
from mlflow.exceptions import MlflowException

from checks import Skip, equal, raises
from mlflow_checks.context import Context, check

# Public, so that MLflow's own server takes it; the webhook is switched off, so it is never called.
ELSEWHERE = "https://1.1.1.1/hook"
SECRET = "a secret of these checks"
PATIENCE_S = 30


@check("webhooks: made, found by id and in the list, changed, removed")
def webhook_round_trip(context: Context) -> None:
    client, name = context.client, f"check-hook-{context.suffix}"
    made = client.create_webhook(
        name, ELSEWHERE, ["model_version.created", "prompt_alias.deleted"],
        description="of a check", secret=SECRET, status=WebhookStatus.DISABLED,
    )
    equal(sorted(str(event) for event in made.events), ["model_version.created", "prompt_alias.deleted"])
    equal((made.name, made.url, made.description, made.status), (name, ELSEWHERE, "of a check", WebhookStatus.DISABLED))
    equal(made.secret, None, "the secret is not shown")
    found = client.get_webhook(made.webhook_id)
    equal((found.name, found.creation_timestamp), (name, made.creation_timestamp))
    listed, token = [], None
    while True:
        page = client.list_webhooks(max_results=1, page_token=token)
        listed += [webhook.webhook_id for webhook in page]
        token = page.token
        if not token:
            break
    equal(listed.count(made.webhook_id), 1, "times in the list")
    changed = client.update_webhook(made.webhook_id, name=name + "-b", events=["registered_model.created"])
    equal((changed.name, [str(event) for event in changed.events]), (name + "-b", ["registered_model.created"]))
    equal((changed.url, changed.description, changed.status), (ELSEWHERE, "of a check", WebhookStatus.DISABLED))
    with raises(MlflowException, code="INVALID_PARAMETER_VALUE"):
        client.create_webhook("not a name", ELSEWHERE, ["registered_model.created"])
    client.delete_webhook(made.webhook_id)
    with raises(MlflowException, made.webhook_id, code="RESOURCE_DOES_NOT_EXIST"):
        client.get_webhook(made.webhook_id)


@check("webhooks: a receiver is sent a test, then a model and its alias, signed")
def webhook_deliveries(context: Context) -> None:
    client, model = context.client, f"check-hooked-{context.suffix}"
    with receiver() as (url, calls):
        try:
            made = client.create_webhook(
                f"check-local-{context.suffix}", url, ["registered_model.created", "model_version_alias.created"], secret=SECRET
            )
        except MlflowException as error:
            # MLflow's own server calls https alone, unless it is started with MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https,
            # MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true and, so that it sees a new webhook at once, MLFLOW_WEBHOOK_CACHE_TTL=0.
            if "scheme" in str(error):
                raise Skip(f"the server calls no receiver on this machine: {error}") from error
            raise
        try:
            result = client.test_webhook(made.webhook_id, "model_version_alias.created")
            equal((result.success, result.response_status), (True, 200))
            sent = verified(*calls.get(timeout=PATIENCE_S))
            equal((sent["entity"], sent["action"], sorted(sent["data"])),
                  ("model_version_alias", "created", ["alias", "name", "version"]))
            client.create_registered_model(model, tags={"team": "risk"}, description="told of")
            client.create_model_version(model, f"models:/{context.onnx_model_id}", model_id=context.onnx_model_id)
            client.set_registered_model_alias(model, "champion", "1")
            told = {}
            while len(told) < 2:
                sent = verified(*calls.get(timeout=PATIENCE_S))
                # Others may use the server at the same time.
                if sent["data"]["name"] == model:
                    told[sent["entity"]] = sent["data"]
            equal(told["registered_model"], {"name": model, "tags": {"team": "risk"}, "description": "told of"})
            equal(told["model_version_alias"], {"name": model, "alias": "champion", "version": "1"})
            client.delete_registered_model(model)
        finally:
            client.delete_webhook(made.webhook_id)


def verified(headers: dict[str, str], body: bytes) -> dict:
    """The body, once its signature was found right."""
    signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.".encode() + body
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    equal(headers["x-mlflow-signature"], f"v1,{base64.b64encode(digest).decode()}", "signature")
    return json.loads(body)


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue]]:
    """URL of a receiver that accepts every call, and the calls."""
    calls: queue.Queue = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            calls.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", calls
    finally:
        server.shutdown()
        server.server_close()
