# One image for each service and job: docker build --build-arg SERVICE=profiles -t rapport/profiles:dev .
# What each holds is said in infra/images/contents.py; `make images` builds all of them.

FROM python:3.11-slim AS build
COPY locks/uv.txt /locks/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /uv && /uv/bin/python -m pip install --quiet --require-hashes -r /locks/uv.txt
ARG SERVICE
COPY locks/${SERVICE}.txt /locks/group.txt
RUN --mount=type=cache,target=/root/.cache/uv \
    export UV_LINK_MODE=copy && /uv/bin/uv venv --quiet --python "$(command -v python)" /opt/venv && \
    /uv/bin/uv pip install --quiet --python /opt/venv --require-hashes --compile-bytecode -r /locks/group.txt && \
    cd /opt/venv/lib/python3*/site-packages && rm -rf pyarrow/include pyarrow/*flight* ibis/backends/impala ibis/backends/bigquery ibis/backends/clickhouse \
        ibis/tests ibis/backends/tests phonenumbers/geodata phonenumbers/carrierdata && \
    find . -depth -type d \( -path './pandas/*tests' -o -path './pyarrow/*tests' -o -path './scipy/*tests' \
        -o -path './sklearn/*tests' \) -exec rm -r {} +

FROM python:3.11-slim AS code
COPY infra/images/contents.py /
COPY chassis /source/chassis
COPY protos/gen /source/protos/gen
COPY ml /source/ml
COPY demo /source/demo
COPY cli /source/cli
COPY infra /source/infra
COPY services /source/services
ARG SERVICE
RUN python /contents.py "$SERVICE" /source /image

# Python without its installers.
FROM python:3.11-slim AS base
COPY infra/images/strip.sh /tmp/
RUN sh /tmp/strip.sh && rm /tmp/strip.sh

# The layers that change least come first: packages, code that images share, code of its own.
FROM base
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/app:/app/protos/gen PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib MALLOC_ARENA_MAX=2
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY --from=code /image/shared /app
COPY --from=code /image/own /app
ARG SERVICE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rapport-${SERVICE}" \
    org.opencontainers.image.description="Rapport: ${SERVICE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
CMD ["/app/start"]
