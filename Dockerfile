# The worker with OpenTelemetry and without embedded engines. It needs REDIS_URL and QDRANT_URL.
#
#   docker build -t memory-worker .
#   docker run --init --read-only --cap-drop ALL -e REDIS_URL=redis://... -e QDRANT_URL=http://...:6334 memory-worker
#
# Everything else is configured at run time, through the environment. deploy/docker/lock updates the locked versions.

FROM python:3.11-slim-bookworm AS dependencies

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

COPY deploy/docker/requirements.lock ./
RUN python -m venv --without-pip /opt/memory-worker \
 && python -m pip --python /opt/memory-worker/bin/python install \
      --quiet --require-hashes --only-binary :all: --no-compile -r requirements.lock \
 && find /opt/memory-worker/lib -type d -name tests -prune -exec rm -r {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/memory-worker/lib


FROM dependencies AS worker

COPY deploy/docker/build.lock ./
RUN python -m pip install --quiet --require-hashes --only-binary :all: -r build.lock

COPY pyproject.toml README.md LICENSE ./
COPY worker worker
# A separate directory makes a new worker with the same dependencies a small layer.
RUN python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && python -m pip --python /opt/memory-worker/bin/python install \
      --quiet --no-deps --no-index --no-compile --prefix /worker dist/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash -s /worker -p /opt/memory-worker /worker/lib


FROM python:3.11-slim-bookworm

# A container installs and writes nothing, so pip is removed and the standard library is compiled here.
RUN python -m pip uninstall --quiet --yes --root-user-action=ignore pip setuptools wheel \
 && rm -rf /usr/local/lib/python3.11/ensurepip /root/.cache \
 && python -m compileall -q --invalidation-mode unchecked-hash \
      -x '/(idlelib|lib2to3|pydoc_data|test|tests|tkinter|turtledemo|site-packages)/' /usr/local/lib/python3.11

COPY --from=dependencies /opt/memory-worker /opt/memory-worker
COPY --from=worker /worker /opt/memory-worker
COPY deploy/docker/healthcheck.py /opt/healthcheck.py

ENV PATH=/opt/memory-worker/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8090
STOPSIGNAL SIGTERM

# /livez and not /readyz, because some orchestrators kill unhealthy containers, which fixes neither Redis nor Qdrant.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-IS", "/opt/healthcheck.py", "/livez"]

ENTRYPOINT ["memory-worker"]
CMD ["run"]

ARG VERSION=0.2.0
LABEL org.opencontainers.image.title="memory-worker" \
      org.opencontainers.image.description="Queue-driven ingestion of an AI app's memories into Qdrant: durable, ordered, batched." \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0"
