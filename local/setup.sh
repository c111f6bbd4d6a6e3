#!/bin/bash
# Everything the project needs on this machine: Debian packages, the virtual environment, Kafka's jars.
# Idempotent; what is already there costs nothing. Called by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

java_is_new_enough() {
    local version
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
    [ -n "$version" ] && [ "$version" -ge 17 ]
}

missing_packages() {
    PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || echo mosquitto
    command -v mosquitto_pub >/dev/null || echo mosquitto-clients
    java_is_new_enough || echo default-jre-headless
    # with the jars in place Maven is no longer needed
    jars_are_there || command -v mvn >/dev/null || echo maven
    command -v python3 >/dev/null || echo python3
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

# what only tests need: rules and configurations are checked by the programs that read them
missing_for_tests() {
    command -v promtool >/dev/null || echo prometheus
    command -v amtool >/dev/null || echo prometheus-alertmanager
}

# without starting what was installed: mosquitto, Prometheus and Alertmanager would each take a port
quietly_install() {
    local policy=/usr/sbin/policy-rc.d ours=
    [ -e "$policy" ] || { ours=$policy; printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; }
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null \
        || { [ -z "$ours" ] || rm -f "$ours"; die "apt-get could not install $*"; }
    [ -z "$ours" ] || rm -f "$ours"
}

is_debian() { [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

packages() {
    local missing tests
    mapfile -t missing < <(missing_packages)
    mapfile -t tests < <(missing_for_tests)
    [ $((${#missing[@]} + ${#tests[@]})) -eq 0 ] && return
    if is_debian && [ "$(id -u)" -eq 0 ]; then
        say "installing ${missing[*]} ${tests[*]}"
        apt-get -qq update
        quietly_install "${missing[@]}" "${tests[@]}"
    elif [ ${#missing[@]} -eq 0 ]; then
        say "make test needs promtool and amtool as well (Debian: ${tests[*]}); all else goes without"
    elif is_debian; then
        die "these Debian packages are missing; install them and run make setup again:
    sudo apt-get update && sudo apt-get install --yes --no-install-recommends ${missing[*]}"
    else
        die "missing: ${missing[*]} (Debian's names). Install with your system's packages, for example
    brew install mosquitto openjdk maven python@3.11
    dnf install mosquitto java-21-openjdk-headless maven python3.11"
    fi
    java_is_new_enough || die "Kafka needs Java 17 or later; this is: $(java -version 2>&1 | head -1)"
}

# ---- a stamp holds the hash of what was installed
hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
is_stamped() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

jars_are_there() { is_stamped .deps/kafka/.installed "$(hash_of local/pom.xml)"; }

jars() {
    jars_are_there && return
    say "Kafka's jars into .deps/kafka"
    rm -rf .deps/kafka
    mvn --batch-mode --quiet -Dstyle.color=never -f local/pom.xml dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$PWD/.deps/kafka" \
        || die "Maven could not fetch Kafka's jars: see above; behind a mirror, name it in ~/.m2/settings.xml"
    hash_of local/pom.xml > .deps/kafka/.installed
}

archive() {
    [ -e .deps/kafka/kafka.jsa ] && return
    say "starting Kafka once, so that it starts quickly from now on"
    .venv/bin/python -m local.engines.warm || say "Kafka could not be started: see above; going on"
}

environment() {
    local wanted
    wanted=$(hash_of requirements/all.lock pyproject.toml)
    is_stamped .venv/.installed "$wanted" && return
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || die "Python 3.11 or later is needed; this is $(python3 --version)"
    say "virtual environment in .venv"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/all.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    echo "$wanted" > .venv/.installed
}

packages
# the two downloads do not wait for each other
jars & jars_pid=$!
environment
wait "$jars_pid"
archive
say "done; try: make demo"
