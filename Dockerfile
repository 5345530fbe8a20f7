# One image for every service; the trainer's has torch, too (--build-arg TORCH=..., see docs/deploy.md).
ARG PYTHON_IMAGE=python:3.11-slim

# What changes seldom and costs minutes, from versions that are pinned. Nothing but
# /install reaches the image: no compiler, no cache, no pip of this stage. pip takes no file whose
# sha256 is not in the lock, whatever index it is given.
FROM ${PYTHON_IMAGE} AS dependencies
ENV SOURCE_DATE_EPOCH=315532800 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /
COPY container/trim.py /
RUN pip install --prefix=/install --require-hashes -r /requirements.lock && python /trim.py /install
LABEL dev.nextwatch.stage="dependencies"

FROM ${PYTHON_IMAGE} AS product
ENV SOURCE_DATE_EPOCH=315532800 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY container/build.lock /
RUN pip install --require-hashes -r /build.lock
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY models models
COPY streams streams
COPY trainer trainer
COPY index_sync index_sync
COPY nextwatch nextwatch
RUN pip install --no-build-isolation --no-deps --prefix=/install .
LABEL dev.nextwatch.stage="product"

FROM ${PYTHON_IMAGE}
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
  SOURCE_DATE_EPOCH=315532800 NEXTWATCH_PROCESS_READY_FILE=/tmp/ready
RUN useradd --create-home --uid 10001 nextwatch \
  && mkdir -p /state/streams /state/bundles /state/checkpoints /usr/share/nextwatch \
  && chown -R nextwatch: /state
COPY --from=dependencies /install /usr/local
COPY constraints.txt /usr/share/nextwatch/
# "none", or what pip installs as torch: "torch" (PyPI's, with CUDA), "torch --index-url URL", a wheel's URL
ARG TORCH=none
RUN if [ "${TORCH}" != none ]; then \
    pip install -c /usr/share/nextwatch/constraints.txt ${TORCH} \
    && pip install -c /usr/share/nextwatch/constraints.txt onnx; \
  fi
COPY --from=product /install /usr/local
COPY container/healthy /usr/local/bin/nextwatch-healthy
COPY container/sbom.py /usr/share/nextwatch/
RUN python /usr/share/nextwatch/sbom.py > /usr/share/nextwatch/sbom.cdx.json
LABEL org.opencontainers.image.title="nextwatch" \
  org.opencontainers.image.version="0.3.0" \
  org.opencontainers.image.licenses="Apache-2.0" \
  dev.nextwatch.stage="image" \
  dev.nextwatch.sbom="/usr/share/nextwatch/sbom.cdx.json"
USER 10001:10001
WORKDIR /home/nextwatch
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["nextwatch-healthy"]
