"""Makes the requests of MLflow's client a part of the training job's trace.

    import slipway_trace
    slipway_trace.install()

An agent sets TRACEPARENT (https://www.w3.org/TR/trace-context/) for the command of a job. With `install`, every
request that the client sends carries it, so that the trace of the job goes on with the versions that it registers,
their rollout and their first prediction. Without TRACEPARENT, e.g. in a notebook, nothing changes.
"""

import os

from mlflow.tracking.request_header import registry
from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider


class TraceHeader(RequestHeaderProvider):
    """Adds the trace of the job to requests."""

    def in_context(self):
        return bool(os.environ.get("TRACEPARENT"))

    def request_headers(self):
        return {"traceparent": os.environ["TRACEPARENT"]}


def install():
    """Adds the header to all requests of this process. Further calls change nothing."""
    providers = registry._request_header_provider_registry
    if not any(isinstance(provider, TraceHeader) for provider in providers):
        providers.register(TraceHeader)
