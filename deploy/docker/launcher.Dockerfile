# The launcher, with the agent as a static program. From the root of the repository:
#
#   docker build -f deploy/docker/launcher.Dockerfile -t localhost/slipway-launcher:0.1.0 .
#
# Jobs of the local backend run in its container, with the programs of its image: launcher-python.Dockerfile adds Python.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
ARG PROFILE=dist
WORKDIR /slipway
COPY . .
# The agent's little C needs no libc of its own, so that any compiler will do.
ENV CC_x86_64_unknown_linux_musl=gcc
RUN rustup target add x86_64-unknown-linux-musl && \
    cargo build --locked --profile "${PROFILE}" --package slipway-launcher && \
    cargo build --locked --profile "${PROFILE}" --package slipway-agent --target x86_64-unknown-linux-musl && \
    mkdir -p /image/usr/local/bin /image/var/lib/slipway/launcher && \
    cp "target/${PROFILE}/slipway-launcher" /image/usr/local/bin/ && \
    cp "target/x86_64-unknown-linux-musl/${PROFILE}/slipway-agent" /image/usr/local/bin/ && \
    chown -R 65532:65532 /image/var/lib/slipway

FROM ${RUNTIME_IMAGE}
COPY --from=build /image/ /
ENV SLIPWAY_LISTEN=0.0.0.0:5010 \
    SLIPWAY_DATA_DIR=/var/lib/slipway/launcher
EXPOSE 5010
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/slipway-launcher"]
