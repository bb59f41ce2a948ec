"""Artifacts: every byte comes back, whatever the file is called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from unittest import mock

import mlflow
import requests
from mlflow.exceptions import MlflowException

from checks import equal, raises
from mlflow_checks.context import Context, check

LARGE_ARTIFACT_BYTES = 40 * 1024 * 1024
ODD_NAMES = ["with space.txt", "a+b.txt", "100%.txt", "ümläut.txt", "semi;colon.txt", "and&equals=.txt",
             "(parens) [brackets].txt", "no extension", ".hidden", "two..dots.txt", "quote'.txt"]


@check("artifacts: one file, in the root and in a folder")
def log_artifact(context: Context) -> None:
    source = context.folder / "report.bin"
    source.write_bytes(bytes(range(256)) * 10)
    context.client.log_artifact(context.run_id, str(source))
    context.client.log_artifact(context.run_id, str(source), "deep/er")
    for path in ("report.bin", "deep/er/report.bin"):
        equal(download(context, path).read_bytes(), source.read_bytes(), path)
    listed = context.client.list_artifacts(context.run_id)
    equal([(one.path, one.is_dir, one.file_size) for one in listed if one.path in ("deep", "report.bin")],
          [("deep", True, None), ("report.bin", False, 2560)])
    equal([one.path for one in context.client.list_artifacts(context.run_id, "deep/er")], ["deep/er/report.bin"])


@check("artifacts: a tree of folders")
def log_artifacts(context: Context) -> None:
    tree = context.folder / "tree"
    for path in ("a.txt", "b/c.txt", "b/d/e.txt", "b/d/empty.bin"):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text("" if "empty" in path else f"content of {path}\n")
    context.client.log_artifacts(context.run_id, str(tree), "tree")
    equal(sorted(one.path for one in context.client.list_artifacts(context.run_id, "tree")), ["tree/a.txt", "tree/b"])
    fetched = download(context, "tree")
    found = {str(path.relative_to(fetched)): path.read_bytes() for path in fetched.rglob("*") if path.is_file()}
    equal(found, {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()})


@check("artifacts: names with spaces, +, %, umlauts")
def odd_names(context: Context) -> None:
    folder = context.folder / "odd names"
    folder.mkdir()
    for name in ODD_NAMES:
        (folder / name).write_bytes(name.encode())
    context.client.log_artifacts(context.run_id, str(folder), "odd + names")
    listed = sorted(os.path.basename(one.path) for one in context.client.list_artifacts(context.run_id, "odd + names"))
    equal(listed, sorted(ODD_NAMES))
    wrong = [name for name in ODD_NAMES if download(context, f"odd + names/{name}").read_bytes() != name.encode()]
    equal(wrong, [], "names whose bytes differ")


@check("artifacts: the same name again replaces the bytes")
def overwrite(context: Context) -> None:
    for text in ("first, and longer", "second"):
        context.client.log_text(context.run_id, text, "again.txt")
    equal(download(context, "again.txt").read_text(), "second")


@check("artifacts: 40 MiB there and back")
def large(context: Context) -> None:
    source = context.folder / "large.bin"
    source.write_bytes(os.urandom(1024 * 1024) * (LARGE_ARTIFACT_BYTES // (1024 * 1024)))
    context.client.log_artifact(context.run_id, str(source), "big")
    equal(context.client.list_artifacts(context.run_id, "big")[0].file_size, LARGE_ARTIFACT_BYTES)
    equal(digest(download(context, "big/large.bin")), digest(source))


@check("artifacts: 25 MiB in parts, at signed addresses where the server hands them out")
def in_parts(context: Context) -> None:
    source = context.folder / "parts.bin"
    source.write_bytes(os.urandom(25 * 1024 * 1024 + 3))
    settings = {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(1024 * 1024),
        "MLFLOW_MULTIPART_DOWNLOAD_MINIMUM_FILE_SIZE": str(1024 * 1024),
    }
    with mock.patch.dict(os.environ, settings):
        context.client.log_artifact(context.run_id, str(source), "parts")
        equal(digest(download(context, "parts/parts.bin")), digest(source), "fetched in parts")
    equal(digest(download(context, "parts/parts.bin")), digest(source), "fetched whole")


@check("artifacts: log_text, log_dict, load_text, load_dict")
def texts(context: Context) -> None:
    with mlflow.start_run(run_id=context.run_id):
        mlflow.log_text("grüße\n", "texts/hello.txt")
        mlflow.log_dict({"b": [1, 2.5, None], "ä": "ö"}, "texts/document.json")
        mlflow.log_dict({"k": {"nested": True}}, "texts/document.yaml")
    uri = f"runs:/{context.run_id}/texts"
    equal(mlflow.artifacts.load_text(f"{uri}/hello.txt"), "grüße\n")
    equal(mlflow.artifacts.load_dict(f"{uri}/document.json"), {"b": [1, 2.5, None], "ä": "ö"})
    assert "nested: true" in mlflow.artifacts.load_text(f"{uri}/document.yaml")


@check("artifacts: a point is the whole directory")
def everything(context: Context) -> None:
    client = context.client
    run = client.create_run(context.experiment_id, run_name="dots").info.run_id
    client.log_text(run, "top", "my.file")
    client.log_text(run, "inside", "dir/my.file")
    equal([one.path for one in client.list_artifacts(run, ".")], ["./dir", "./my.file"])
    fetched = Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path="."))
    equal((fetched / "my.file").read_text(), "top")
    equal((fetched / "dir" / "my.file").read_text(), "inside")
    with raises(requests.HTTPError, "Invalid path"):
        client.list_artifacts(run, "../elsewhere")


@check("artifacts: downloads and uploads of a browser")
def browser(context: Context) -> None:
    address = context.client.tracking_uri
    for name, mime_type in (("page.html", "text/html"), ("MLmodel", "text/plain"), ("c.png", "image/png"),
                            ("data.json", "text/plain"), ("b.pkl", "application/octet-stream")):
        place = {"run_uuid": context.run_id, "path": f"browser/{name}"}
        sent = requests.post(f"{address}/ajax-api/2.0/mlflow/upload-artifact", params=place, data=b"hello", timeout=60)
        equal(sent.status_code, 200, sent.text)
        found = requests.get(f"{address}/get-artifact", params=place, timeout=60)
        equal((found.status_code, found.text), (200, "hello"))
        equal(found.headers["Content-Disposition"], f"attachment; filename={name}")
        equal((found.headers["Content-Type"], found.headers["X-Content-Type-Options"]), (mime_type, "nosniff"))


@check("artifacts: what is not there is said to be missing")
def missing(context: Context) -> None:
    equal(context.client.list_artifacts(context.run_id, "no such folder"), [])
    with raises((MlflowException, OSError)):
        download(context, "no such file.txt")


def download(context: Context, path: str) -> Path:
    """Downloads into a new folder, so that an earlier copy cannot pass for this one."""
    target = context.folder / "downloads" / hashlib.sha256(os.urandom(16)).hexdigest()[:12]
    target.mkdir(parents=True)
    return Path(context.client.download_artifacts(context.run_id, path, str(target)))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
