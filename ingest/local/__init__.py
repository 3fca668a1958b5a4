"""The embedded stack: real PostgreSQL and real Apache Kafka on this machine, from packages, without Docker.

Nothing in production imports this package. Its files:

    run           `slotwire local`: starts everything in order, until interrupted
    wiring        the processes of `slotwire local`, their ports and settings
    console       its output: progress, events, the ready line
    topics        its topics, made as soon as the broker answers
    demo          its demo: subscribes an organization and makes meetings happen
    supervisor    starts our processes, and restarts one that dies

    stack         Postgres and Kafka together
    server        what the two servers have in common: start, wait, freeze, kill, stop
    postgres      one PostgreSQL server
    kafka         one Kafka broker
    jars          downloads the broker's jars
    java          finds the Java that runs them
    class_data    an archive of parsed classes, so that the broker starts faster
    databases     one database per test
    pytest_plugin fixtures for tests of whoever builds on Slotwire

    state         the state folder: its lock, ports and secrets, and `--wipe`
    folders       where state and downloads are stored, and who may enter which folder
    children      child processes that end when we do
"""
