"""Exercises a tracking server and registry with the unmodified MLflow client, and compares what comes back.

    python check_mlflow_client.py --tracking-uri http://127.0.0.1:5000

Prints `ok NAME`, `FAIL NAME: why` or `skip NAME: why` for each check, in an order where later ones build on earlier ones; exits with 1 if
any failed. Every name it makes is new, so it can run again and again, and concurrently with others, on the same server. It holds
for the server of MLflow 3.17 itself.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# A server that answers 5xx shall fail a check, not hold it up for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

import mlflow

# Importing these adds their checks, which run in this order.
from mlflow_checks import tracking  # noqa: F401 isort: skip
from mlflow_checks import artifacts  # noqa: F401 isort: skip
from mlflow_checks import models  # noqa: F401 isort: skip
from mlflow_checks import scans  # noqa: F401 isort: skip
from mlflow_checks import webhooks  # noqa: F401 isort: skip
from mlflow_checks.context import Context, checks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI"))
    parser.add_argument("--only", metavar="TEXT", help="run the checks whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="show where a failed check stopped")
    arguments = parser.parse_args()
    if not arguments.tracking_uri:
        parser.error("--tracking-uri is needed, for example http://127.0.0.1:5000")
    mlflow.set_tracking_uri(arguments.tracking_uri)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        return checks.run(Context(mlflow.MlflowClient(), Path(folder)), arguments.only, arguments.verbose)


if __name__ == "__main__":
    sys.exit(main())
