# One image for every service; the command says which. The local platform (chdb, Kafka's jars) is not in it.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python3 -m venv /opt/millrace
COPY requirements/build.lock requirements/services.lock requirements/
RUN /opt/millrace/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock -r requirements/services.lock
COPY . .
RUN /opt/millrace/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/millrace/bin/python -m compileall -q /opt/millrace/lib

FROM python:3.11-slim
RUN groupadd --gid 10001 millrace \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin millrace
COPY --from=build /opt/millrace /opt/millrace
ENV PATH=/opt/millrace/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001

CMD ["millrace", "--help"]
