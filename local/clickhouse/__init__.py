"""ClickHouse's engine (chdb, in process) behind ClickHouse's own HTTP interface, for one machine.

Clients (clickhouse-connect, curl, our services) speak to it as they would to a server: queries, streamed results,
inserts in every format, external data, parameters, settings, deduplication tokens, compression, errors with codes,
/ping. It keeps no HTTP sessions: no `SET`, no temporary tables between requests.

    landlock  the kernel's system calls by which a process gives up files and the network
    sandbox   what this process gives up before the engine is loaded (ADR 22)
    allowed   settings that come with a request: a closed list, and limits                       (pure)
    sql       what a statement is: read, insert with data, or other                               (pure)
    formats   how chunks of a result are joined                                                   (pure)
    errors    ClickHouse's error codes and their HTTP status                                      (pure)
    users     who may come in
    engine    chdb's connections, in threads
    external  tables that travel with a request                                                   (pure)
    protocol  connections: how many, and how long and large a request's head may be
    exchange  one HTTP request: statement, body, compression
    answers   one HTTP response: whole, streamed, broken off
    app       the ASGI application that puts them together
"""
