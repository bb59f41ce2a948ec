"""Signs models with the real `model-signing` package and has the registry verify them, and the other way round.

    python check_model_signing.py --tracking-uri http://127.0.0.1:5000 --slipway target/debug/slipway --data-dir .slipway

Prints `ok NAME` or `FAIL NAME: why` for each check; exits with 1 if any failed. Every name it makes is new, so it can run again and
again on the same platform.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import model_signing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from checks import Checks, equal, raises

checks = Checks()
PEM = serialization.Encoding.PEM


class Context:
    """The platform, a folder for keys and models, and names that were not used before."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.uri = arguments.tracking_uri.rstrip("/")
        self.program = [arguments.slipway, "--data-dir", arguments.data_dir]
        self.folder = folder
        self.client = mlflow.MlflowClient()
        self.name = f"signed-{uuid.uuid4().hex[:8]}"
        self.client.create_registered_model(self.name)

    def call(self, method: str, path: str, body: bytes | None = None) -> dict:
        request = urllib.request.Request(f"{self.uri}/api/v1/{path}", body, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code}: {error.read().decode()}") from error

    def slipway(self, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run([*self.program, *arguments], capture_output=True, text=True, check=False)
        equal(done.returncode != 0, fails, f"slipway {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def model(self) -> Path:
        """A folder with files in folders, and one that git would have left there."""
        folder = Path(tempfile.mkdtemp(dir=self.folder)) / "model"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "weights.bin").write_bytes(os.urandom(5000))
        (folder / "data.txt").write_text("beside data/\n")
        (folder / "ünicode name.txt").write_text("a name with more than ASCII\n")
        (folder / "empty").write_bytes(b"")
        (folder / ".gitattributes").write_text("*.bin filter=lfs\n")
        return folder

    def register(self, folder: Path) -> str:
        """Logs a folder with the MLflow client and makes a version of it."""
        run = self.client.create_run("0")
        self.client.log_artifacts(run.info.run_id, str(folder), "model")
        source = f"runs:/{run.info.run_id}/model"
        return self.client.create_model_version(self.name, source, run.info.run_id).version

    def verdict(self, version: str) -> dict:
        return self.call("GET", f"models/{self.name}/versions/{version}/signature")

    def key(self, curve: ec.EllipticCurve, sec1: bool = False) -> tuple[Path, Path, str]:
        """A new key, trusted by the registry: files of the private and the public half, and its name."""
        name = f"key-{uuid.uuid4().hex[:8]}"
        key = ec.generate_private_key(curve)
        private, public = self.folder / f"{name}.pem", self.folder / f"{name}.pub"
        form = serialization.PrivateFormat.TraditionalOpenSSL if sec1 else serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
        self.slipway("models", "keys", "trust", name, str(public))
        return private, public, name


def sign(private: Path, folder: Path) -> None:
    """Signs as the package's command line does: the signature lies in the model's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "model_signing", "sign", "key", str(folder), "--private_key", str(private)]
        + ["--signature", str(folder / "model.sig")],
        capture_output=True,
        text=True,
        check=False,
    )
    equal(done.returncode, 0, done.stdout + done.stderr)


@checks.check("what the package signs is valid, on each curve")
def each_curve(context: Context) -> None:
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()):
        private, _, name = context.key(curve)
        folder = context.model()
        sign(private, folder)
        version = context.register(folder)
        verdict = context.verdict(version)
        equal((verdict["state"], verdict["key"]), ("valid", name), str(verdict))
        context.slipway("models", "verify", context.name, version)


@checks.check("one byte changed is a mismatch that names the file")
def one_byte(context: Context) -> None:
    private, _, _ = context.key(ec.SECP256R1())
    folder = context.model()
    sign(private, folder)
    weights = bytearray((folder / "data" / "weights.bin").read_bytes())
    weights[2500] ^= 1
    (folder / "data" / "weights.bin").write_bytes(weights)
    version = context.register(folder)
    verdict = context.verdict(version)
    equal(verdict["state"], "mismatch", str(verdict))
    equal(verdict["differences"], [{"path": "data/weights.bin", "kind": "changed"}])
    refusal = context.slipway("models", "verify", context.name, version, fails=True)
    assert "data/weights.bin" in refusal, refusal


@checks.check("what a certificate of a trusted root signs is valid")
def certificates(context: Context) -> None:
    root_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Root", root_key, "Root", root_key, True)
    leaf = _certificate("Model Team", key, "Root", root_key, False)
    paths = {}
    for name, content in (
        ("root", root.public_bytes(PEM)),
        ("leaf", leaf.public_bytes(PEM)),
        ("key", key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())),
    ):
        paths[name] = context.folder / f"certificate-{name}.pem"
        paths[name].write_bytes(content)
    folder = context.model()
    signature = context.folder / "certificate.sig"
    model_signing.signing.Config().use_certificate_signer(
        private_key=paths["key"], signing_certificate=paths["leaf"], certificate_chain=[paths["root"]]
    ).sign(folder, signature)
    version = context.register(folder)
    path = f"models/{context.name}/versions/{version}/signature"
    # Git's file was not signed, since the signer left it out and said so.
    equal(context.call("PUT", path, signature.read_bytes())["state"], "untrusted_key")
    name = f"roots-{uuid.uuid4().hex[:8]}"
    context.slipway("models", "keys", "trust", name, str(paths["root"]))
    verdict = context.verdict(version)
    equal((verdict["state"], verdict["signer"]), ("valid", "CN=Model Team"), str(verdict))
    context.slipway("models", "keys", "remove", name)
    equal(context.verdict(version)["state"], "untrusted_key")


@checks.check("what slipway signs the package verifies")
def ours(context: Context) -> None:
    for curve, sec1 in ((ec.SECP256R1(), False), (ec.SECP384R1(), True), (ec.SECP521R1(), False)):
        private, public, name = context.key(curve, sec1)
        version = context.register(context.model())
        equal(context.verdict(version)["state"], "unsigned")
        context.slipway("models", "sign", context.name, version, "--key", str(private))
        equal(context.verdict(version)["key"], name)
        context.slipway("models", "verify", context.name, version, "--key", str(public))

        target = tempfile.mkdtemp(dir=context.folder)
        source = f"models:/{context.name}/{version}"
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=target))
        signature = folder / "model.sig"
        bundle = context.call("GET", f"models/{context.name}/versions/{version}/signature/bundle")
        signature.write_text(json.dumps(bundle))
        verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public)
        verifier.verify(folder, signature)
        done = subprocess.run(
            [sys.executable, "-m", "model_signing", "verify", "key", str(folder), "--public_key", str(public)]
            + ["--signature", str(signature)],
            capture_output=True,
            text=True,
            check=False,
        )
        equal(done.returncode, 0, done.stdout + done.stderr)
        (folder / "data.txt").write_text("other\n")
        with raises(ValueError, "data.txt"):
            model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, signature)


def _certificate(subject: str, key, issuer: str, issuer_key, authority: bool) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(
        ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
        + ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"],
        False,
    )
    usage["key_cert_sign" if authority else "digital_signature"] = True
    return (
        x509.CertificateBuilder()
        .subject_name(named(subject))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracking-uri", required=True, help="the registry, for example http://127.0.0.1:5000")
    parser.add_argument("--slipway", default="slipway", help="the program")
    parser.add_argument("--data-dir", default=".slipway", help="the platform's data directory")
    parser.add_argument("--only", metavar="TEXT", help="run the checks whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="show where a failed check stopped")
    arguments = parser.parse_args()
    mlflow.set_tracking_uri(arguments.tracking_uri)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        return checks.run(Context(arguments, Path(folder)), arguments.only, arguments.verbose)


if __name__ == "__main__":
    sys.exit(main())
