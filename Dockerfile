# The three images, each a target: docker build --target expert-router --tag expert-router:0.1.0 .
# Targets: expert-router (gateways and sidecars), expert-router-operator, expert-router-train.
# They hold one program, the libraries it needs, and where models run ONNX Runtime; no shell. `make images` packs the same without an engine.
FROM docker.io/library/rust:1-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ENV XDG_CACHE_HOME=/cache
RUN cargo run --package xtask -- fetch onnxruntime encoder \
 && cargo build --release --locked --package sidecar --package operator --package train \
 && mkdir -p /parts/encoder \
 && cp /cache/expert-router/parts/onnxruntime-*/libonnxruntime.so /parts/ \
 && cp /cache/expert-router/parts/encoder-*/* /parts/encoder/

FROM gcr.io/distroless/cc-debian12:nonroot AS expert-router
COPY --from=build /parts/libonnxruntime.so /usr/lib/libonnxruntime.so
COPY --from=build /source/target/release/expert-router /usr/bin/expert-router
ENV ORT_DYLIB_PATH=/usr/lib/libonnxruntime.so
USER 65532:65532
ENTRYPOINT ["/usr/bin/expert-router"]

FROM gcr.io/distroless/cc-debian12:nonroot AS expert-router-operator
COPY --from=build /source/target/release/expert-router-operator /usr/bin/expert-router-operator
USER 65532:65532
ENTRYPOINT ["/usr/bin/expert-router-operator"]

FROM gcr.io/distroless/cc-debian12:nonroot AS expert-router-train
COPY --from=build /parts/libonnxruntime.so /usr/lib/libonnxruntime.so
COPY --from=build /parts/encoder /usr/share/expert-router/encoder
COPY --from=build /source/target/release/expert-router-train /usr/bin/expert-router-train
ENV ORT_DYLIB_PATH=/usr/lib/libonnxruntime.so EXPERT_ROUTER_ENCODER=/usr/share/expert-router/encoder
USER 65532:65532
ENTRYPOINT ["/usr/bin/expert-router-train"]
