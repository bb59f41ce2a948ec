# The launcher with Python and the packages that jobs import: for the local backend, whose jobs run in the launcher's container.
# From the root of the repository:
#
#   docker build -f deploy/docker/launcher-python.Dockerfile -t localhost/slipway-launcher-python:0.1.0 .
#   echo SLIPWAY_LAUNCHER_IMAGE=localhost/slipway-launcher-python:0.1.0 >>.env
ARG LAUNCHER_IMAGE=localhost/slipway-launcher:0.1.0
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${LAUNCHER_IMAGE} AS launcher

FROM ${PYTHON_IMAGE}
ARG REQUIREMENTS=examples/training/requirements.txt
COPY ${REQUIREMENTS} /tmp/requirements.txt
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt && rm /tmp/requirements.txt
COPY --from=launcher /usr/local/bin/slipway-launcher /usr/local/bin/slipway-agent /usr/local/bin/
COPY --from=launcher --chown=65532:65532 /var/lib/slipway/ /var/lib/slipway/
ENV SLIPWAY_LISTEN=0.0.0.0:5010 \
    SLIPWAY_DATA_DIR=/var/lib/slipway/launcher \
    HOME=/var/lib/slipway
EXPOSE 5010
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/slipway-launcher"]
