"""What the checks hand on to later ones."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

from checks import Checks

checks = Checks()
check = checks.check


@dataclass
class Context:
    """The client, unique names, and what earlier checks made."""

    client: MlflowClient
    folder: Path
    suffix: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    experiment_id: str = ""
    run_id: str = ""
    model_run_id: str = ""
    onnx_bytes: bytes = b""
    onnx_model_id: str = ""

    @property
    def experiment(self) -> str:
        return f"check experiment {self.suffix}"

    @property
    def model(self) -> str:
        return f"check-model-{self.suffix}"
