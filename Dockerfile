# One image, all processes: `docker build -t slotwire .`, then `docker run slotwire serve` and so on.
# pip's own configuration says where packages come from; pass a mirror as a build secret:
#   docker build --secret id=pip,src=pip.conf -t slotwire .
# `make pin` puts the digest behind it.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONFIG_FILE=/run/secrets/pip
RUN python -m venv /opt/build && python -m venv /opt/slotwire
WORKDIR /src
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN --mount=type=secret,id=pip \
    /opt/build/bin/pip install --require-hashes --requirement requirements/build.lock && \
    /opt/slotwire/bin/pip install --require-hashes --only-binary :all: --requirement requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY schemas schemas
COPY ingest ingest
COPY handlers handlers
RUN /opt/build/bin/hatchling build --target wheel --directory /dist && \
    /opt/slotwire/bin/pip install --no-deps --no-index /dist/*.whl && \
    /opt/slotwire/bin/pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Slotwire" \
      org.opencontainers.image.description="Calendly webhooks as a durable, ordered, typed event stream on Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
# The Kubernetes manifests name the same user id. It cannot log in and owns no file.
RUN groupadd --gid 10001 slotwire && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin slotwire
ENV PATH=/opt/slotwire/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/slotwire /opt/slotwire
# For your own agents, build FROM this image and COPY your package here: `slotwire agents run` looks in the working directory.
WORKDIR /agents
USER 10001:10001
EXPOSE 8080 8081 8082 8083 8084
STOPSIGNAL SIGTERM
# The orchestrator asks /livez and /readyz on the health port: see k8s/ and compose.yaml.
HEALTHCHECK NONE
ENTRYPOINT ["slotwire"]
CMD ["--help"]
