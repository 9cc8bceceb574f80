# photojobs with everything it runs on: the command, Prefect's server and worker, PostgreSQL and Dask clients.
FROM python:3.11-slim-bookworm AS build

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY task_definitions task_definitions
COPY storage storage
COPY flows flows
COPY deployments deployments
RUN python -m venv /opt/photojobs \
    && /opt/photojobs/bin/pip install --no-cache-dir --constraint constraints.txt ".[postgres,raw,dask]"

FROM python:3.11-slim-bookworm

# The owner of the library on the host, so that new files in the library belong to the same user.
ARG UID=1000
RUN useradd --uid "$UID" --create-home photojobs \
    && install --directory --owner photojobs /library
COPY --from=build /opt/photojobs /opt/photojobs
ENV PATH=/opt/photojobs/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PHOTOJOBS_LIBRARY_ROOT=/library
USER $UID
WORKDIR /home/photojobs

# The container is healthy if the database answers.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s CMD ["photojobs", "lanes", "list"]
ENTRYPOINT ["photojobs"]
CMD ["--help"]
