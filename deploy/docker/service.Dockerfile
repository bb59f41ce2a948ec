# One service of Slipway, or its command line. From the root of the repository:
#
#   docker build -f deploy/docker/service.Dockerfile --build-arg PROGRAM=slipway-registry -t localhost/slipway-registry:0.1.0 .
#
# | PROGRAM                    | PORT |
# |----------------------------|------|
# | slipway-registry           | 5000 |
# | slipway-rollout-controller | 5020 |
# | slipway-drift-monitor      | 5030 |
# | slipway                    | –    |
#
# The launcher and serving have files of their own: launcher.Dockerfile, serving.Dockerfile.
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
ARG PROGRAM
ARG PROFILE=dist
WORKDIR /slipway
COPY . .
# The link has the same name in every image, because ENTRYPOINT takes no build argument.
RUN cargo build --locked --profile "${PROFILE}" --package "${PROGRAM:?name it with --build-arg PROGRAM=slipway-registry}" && \
    mkdir -p /image/usr/local/bin && \
    cp "target/${PROFILE}/${PROGRAM}" /image/usr/local/bin/ && \
    ln -s "${PROGRAM}" /image/usr/local/bin/slipway-service

FROM ${RUNTIME_IMAGE}
ARG PORT=5000
COPY --from=build /image/ /
ENV SLIPWAY_LISTEN=0.0.0.0:${PORT}
EXPOSE ${PORT}
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/slipway-service"]
