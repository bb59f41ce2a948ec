# Serving, with ONNX Runtime. From the root of the repository:
#
#   docker build -f deploy/docker/serving.Dockerfile -t localhost/slipway-serving:0.1.0-onnx-cpu .
#
# The library is that of the Python wheel, and needs no Python. For NVIDIA GPUs, with CUDA and cuDNN from the runtime image:
#
#   docker build -f deploy/docker/serving.Dockerfile --build-arg ONNXRUNTIME=onnxruntime-gpu \
#     --build-arg RUNTIME_IMAGE=docker.io/nvidia/cuda:13.0.0-cudnn-runtime-ubuntu24.04 -t localhost/slipway-serving:0.1.0-onnx-cuda .
ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG PYTHON_IMAGE=docker.io/library/python:3.11-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${PYTHON_IMAGE} AS onnxruntime
ARG ONNXRUNTIME=onnxruntime
ARG ONNXRUNTIME_VERSION=1.31.1
RUN pip download --no-deps --only-binary=:all: --dest /wheels "${ONNXRUNTIME}==${ONNXRUNTIME_VERSION}" && \
    python -m zipfile -e /wheels/*.whl /wheel && \
    mkdir -p /image/usr/lib/onnxruntime && \
    cp /wheel/onnxruntime/capi/lib*.so* /image/usr/lib/onnxruntime/ && \
    ln -s "libonnxruntime.so.${ONNXRUNTIME_VERSION}" /image/usr/lib/onnxruntime/libonnxruntime.so && \
    cp /wheel/onnxruntime/LICENSE /wheel/onnxruntime/ThirdPartyNotices.txt /image/usr/lib/onnxruntime/

FROM ${RUST_IMAGE} AS build
ARG PROFILE=dist
WORKDIR /slipway
COPY . .
RUN cargo build --locked --profile "${PROFILE}" --package slipway-serving && \
    mkdir -p /image/usr/local/bin /image/var/lib/slipway/serving && \
    cp "target/${PROFILE}/slipway-serving" /image/usr/local/bin/ && \
    chown -R 65532:65532 /image/var/lib/slipway

FROM ${RUNTIME_IMAGE}
COPY --from=onnxruntime /image/ /
COPY --from=build /image/ /
ENV SLIPWAY_LISTEN=0.0.0.0:8000 \
    SLIPWAY_LISTEN_GRPC=0.0.0.0:8001 \
    SLIPWAY_LISTEN_METRICS=0.0.0.0:8002 \
    SLIPWAY_CACHE_DIR=/var/lib/slipway/serving \
    SLIPWAY_ONNXRUNTIME_LIB=/usr/lib/onnxruntime/libonnxruntime.so
EXPOSE 8000 8001 8002
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/slipway-serving"]
