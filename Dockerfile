# One image for every service; the command says which. The local platform (chdb, Kafka's jars) is not in it.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python3 -m venv /opt/millrace
COPY requirements/build.lock requirements/services.lock requirements/
RUN /opt/millrace/bin/pip install --no-cache-dir --no-compile --require-hashes -r requirements/build.lock -r requirements/services.lock
# what no service opens: Arrow's headers, tests and parts for Flight and S3, sources of extensions, symbols for debuggers
WORKDIR /opt/millrace/lib/python3.11/site-packages
RUN apt-get update && apt-get install --yes --no-install-recommends binutils \
 && rm -rf pyarrow/include pyarrow/includes pyarrow/tests pyarrow/src pyarrow/*.pyx pyarrow/*.pxd pyarrow/*.so.*.*.* \
    pyarrow/libarrow_flight* pyarrow/_flight* pyarrow/libarrow_python_flight* pyarrow/libarrow_s3* pyarrow/_s3fs* \
    simdjson/*.cpp simdjson/*.h zstandard/_cffi* \
 && find numpy -depth -type d -name tests -exec rm -rf {} + \
 && strip --strip-unneeded csimdjson*.so zstandard/*.so uvloop/*.so aiohttp/*.so
WORKDIR /src
COPY . .
RUN /opt/millrace/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
 && /opt/millrace/bin/pip uninstall --yes setuptools pip \
 && python3 -m compileall -q /opt/millrace/lib

FROM python:3.11-slim
RUN groupadd --gid 10001 millrace \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin millrace
# what services write, where a volume is mounted: an empty volume takes its owner from here
RUN install -d -o 10001 -g 10001 /state /monitoring/dashboards /monitoring/alertmanager
COPY --from=build /opt/millrace /opt/millrace
ENV PATH=/opt/millrace/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001

CMD ["millrace", "--help"]
