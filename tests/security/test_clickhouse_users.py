"""What users of a ClickHouse server may do, asked of ClickHouse's own access control with the very grants we ship."""

import json
import subprocess
import sys
from collections.abc import Iterable
from xml.etree import ElementTree

import pytest

from identity.clickhouse_users import USERS, User, document

CONFIG = "<clickhouse><users_config>{}</users_config></clickhouse>"
USERS_XML = """<clickhouse><profiles><default/></profiles><quotas><default/></quotas><roles>
<admin><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants></admin>{roles}</roles><users><default>
<password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
<grants>{granted}</grants></default></users></clickhouse>"""
CHILD = """
import json, sys
from chdb.session import Session
session = Session(sys.argv[1] + "?config-file=" + sys.argv[2])
answers = {}
for role, statements in json.load(sys.stdin).items():
    for statement in statements:
        session.query("SET ROLE " + role)
        try:
            session.query(statement, "CSV")
            answers[role + ": " + statement] = "done"
        except Exception as error:
            answers[role + ": " + statement] = str(error)
print(json.dumps(answers))
"""
SETUP = ["CREATE DATABASE millrace", "CREATE TABLE millrace.t (a UInt8) ENGINE = MergeTree ORDER BY a",
         "CREATE TABLE millrace.incidents (incident String) ENGINE = MergeTree ORDER BY incident",
         "CREATE VIEW millrace.incidents_current AS SELECT incident FROM millrace.incidents",
         "CREATE DATABASE other", "CREATE TABLE other.t (a UInt8) ENGINE = MergeTree ORDER BY a"]  # fmt: skip
READ, WRITE = "SELECT a FROM millrace.t", "INSERT INTO millrace.t (a) VALUES (1)"
MAKE = "CREATE TABLE millrace.{} (a UInt8) ENGINE = MergeTree ORDER BY a"
MAY = {
    "owner": [
        READ,
        WRITE,
        MAKE.format("o"),
        "ALTER TABLE millrace.t ADD COLUMN b UInt8",
        "SELECT name FROM system.tables",
    ],
    "sink": [READ, WRITE, "SELECT name FROM system.columns"],
    "analyst": [READ, "SELECT name FROM system.tables", "SELECT rows FROM system.parts"],
    "grafana": [READ, "SELECT name FROM system.tables"],
    "watch": [READ, "SELECT free_space FROM system.disks", "SELECT rows FROM system.parts"],
    "notify": ["SELECT incident FROM millrace.incidents_current"],
}
MAY_NOT = {
    "owner": ["SELECT a FROM other.t", "DROP DATABASE other"],
    "sink": [MAKE.format("s"), "ALTER TABLE millrace.t DELETE WHERE 1", "DROP TABLE millrace.t",
             "SELECT a FROM other.t"],
    "analyst": [WRITE, MAKE.format("a"), "DROP TABLE millrace.t", "TRUNCATE TABLE millrace.t", "SELECT a FROM other.t",
                "SELECT * FROM system.users", "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
                "SELECT * FROM file('/etc/passwd', 'LineAsString')"],
    "grafana": [WRITE, "DROP TABLE millrace.t", "SELECT a FROM other.t"],
    "watch": [WRITE, "DROP TABLE millrace.t", "SELECT a FROM other.t", "SELECT * FROM system.users"],
    "notify": [READ, WRITE, "DROP TABLE millrace.t", "SELECT a FROM other.t"],
}  # fmt: skip


def _queries(grants: Iterable[str]) -> str:
    return "".join(f"<query>{grant}</query>" for grant in grants)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("users")
    roles = "".join(f"<{user.name}><grants>{_queries(user.grants)}</grants></{user.name}>" for user in USERS)
    granted = _queries([f"GRANT {name}" for name in ("admin", *MAY)])
    (folder / "users.xml").write_text(USERS_XML.format(roles=roles, granted=granted))
    (folder / "config.xml").write_text(CONFIG.format(folder / "users.xml"))
    asked = {"admin": SETUP} | {name: MAY[name] + MAY_NOT[name] for name in MAY}
    argv = [sys.executable, "-c", CHILD, str(folder / "data"), str(folder / "config.xml")]
    done = subprocess.run(argv, input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    assert all(found[f"admin: {statement}"] == "done" for statement in SETUP), found
    return found


@pytest.mark.parametrize("user", [user.name for user in USERS])
def test_a_user_may_do_what_its_service_needs(answers: dict[str, str], user: str) -> None:
    assert {text: answers[f"{user}: {text}"] for text in MAY[user]} == dict.fromkeys(MAY[user], "done")


@pytest.mark.parametrize("user", [user.name for user in USERS])
def test_a_user_is_refused_everything_else(answers: dict[str, str], user: str) -> None:
    assert [text for text in MAY_NOT[user] if "ACCESS_DENIED" not in answers[f"{user}: {text}"]] == []


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_the_server_s_file_names_the_user_its_hash_and_its_limits(user: User) -> None:
    root = ElementTree.fromstring(document(user.name, "ab" * 32))
    assert root.findtext(f"users/{user.name}/password_sha256_hex") == "ab" * 32
    assert root.find("users/default").get("remove") == "remove"  # type: ignore[union-attr]
    for name, value in user.settings:
        assert root.findtext(f"profiles/{user.name}/{name}") == str(value)
        assert root.findtext(f"profiles/{user.name}/constraints/{name}/max") == str(value)
