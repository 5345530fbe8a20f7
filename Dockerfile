# One image, two sizes: EXTRAS= for serving (no torch), EXTRAS=train,replay for everything else.
FROM python:3.11-slim
ARG EXTRAS=""
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY contract contract
COPY models models
COPY streams streams
COPY trainer trainer
COPY index_sync index_sync
COPY nextwatch nextwatch
RUN pip install -c constraints.txt ".${EXTRAS:+[${EXTRAS}]}" \
  && useradd --create-home --uid 10001 nextwatch \
  && mkdir -p /state/streams /state/bundles /state/checkpoints \
  && chown -R nextwatch /state
USER nextwatch
