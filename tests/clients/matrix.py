#!/usr/bin/env python3
"""Runs Kafka's clients, as their registries have them, against a broker; prints what works.

`tests/clients/run` is the way in: it fetches and builds the clients first.
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "python"))  # the shows wait and compare as the Python clients' cases do

import assignors
import brokers
import compare
import frameworks
import shows
import stage
import wire

CASES = ("codecs", "offsets", "fields", "large", "idempotence", "group", "commit", "admin", "failover")
AT_A_TIME = 4
SECONDS = 120  # for a case; the slowest are the tools, a start of Java for each command


def programs(cache):
    """Of each client the folder that it is set up from, and its command."""
    python = "python", [cache / "python/bin/python", HERE / "python/main.py"]
    node = "node", ["node", cache / "node/main.js"]
    go = "go", [cache / "go/clients"]
    java = "java", ["java", "-Xmx512m", "-cp", f"{cache}/java/classes:{cache}/java/jars/*", "Main"]
    tools = "java", ["python3", HERE / "java/tools.py", f"{cache}/java/jars/*"]
    kcat = "kcat", ["python3", HERE / "kcat/main.py"]
    rust = "rust", [cache / "rust/debug/clients"]
    return {
        "java-classic": java, "java-consumer": java, "kafka-tools": tools,
        "confluent-kafka": python, "kafka-python": python, "aiokafka": python,
        "kafkajs": node, "confluent-kafka-javascript": node,
        "franz-go": go, "sarama": go, "kafka-go": go,
        "rdkafka": rust, "rskafka": rust, "kcat": kcat,
    }


def commands_of_shows(cache):
    """Those of the clients, and how Java runs the frameworks."""
    java = ["java", "-Xmx256m", "-cp", f"{cache}/frameworks/classes:{cache}/frameworks/jars/*"]
    return {"frameworks": java, **{client: command for client, (_, command) in programs(cache).items()}}


# Of each show the folders of `setup` that it needs, and its function.
SHOWS = {
    **{name: (("java", "python"), show) for name, show in shows.SHOWS.items()},
    **{name: (("frameworks",), show) for name, show in {**frameworks.SHOWS, **assignors.SHOWS}.items()},
}


# Where the version of a client is pinned: a file, and what stands before it.
PINS = {
    "java-classic": ("java/pom.xml", "<kafka>"),
    "java-consumer": ("java/pom.xml", "<kafka>"),
    "kafka-tools": ("java/pom.xml", "<kafka>"),
    "confluent-kafka": ("python/requirements.txt", "confluent-kafka=="),
    "kafka-python": ("python/requirements.txt", "kafka-python=="),
    "aiokafka": ("python/requirements.txt", "aiokafka=="),
    "kafkajs": ("node/package.json", '"kafkajs": "'),
    "confluent-kafka-javascript": ("node/package.json", 'kafka-javascript": "'),
    "franz-go": ("go/go.mod", "twmb/franz-go v"),
    "sarama": ("go/go.mod", "IBM/sarama v"),
    "kafka-go": ("go/go.mod", "segmentio/kafka-go v"),
    "rdkafka": ("rust/Cargo.toml", 'rdkafka = { version = "='),
    "rskafka": ("rust/Cargo.toml", 'rskafka = "='),
}


def version(client):
    """The client's version; kcat is the one that is installed."""
    if client == "kcat":
        told = shutil.which("kcat") and subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
        return re.search(r"Version ([\d.]+)", told)[1] if told else ""
    file, before = PINS[client]
    return re.search(re.escape(before) + r"([\d.]+)", (HERE / file).read_text())[1]


# What `--half` runs, made so that each client and each case is there and the slow ones are few.
HALF = {
    "java-classic": ("codecs", "fields", "group", "failover"),
    "java-consumer": ("group", "commit"),
    "kafka-tools": ("commit",),
    "confluent-kafka": ("codecs", "offsets", "group", "admin"),
    "kafka-python": ("codecs", "idempotence", "commit", "admin"),
    "aiokafka": ("fields", "group"),
    "kafkajs": ("offsets", "group", "admin"),
    "confluent-kafka-javascript": ("large", "commit"),
    "franz-go": ("codecs", "offsets", "idempotence", "group", "failover"),
    "sarama": ("fields", "commit", "admin"),
    "kafka-go": ("offsets", "large", "group"),
    "rdkafka": ("idempotence", "failover"),
    "rskafka": ("codecs", "admin"),
    "kcat": ("fields", "offsets"),
}


PAGE = """# Kafka's clients

What Kafka's own clients can do with a broker, written by `tests/clients/run --out docs/clients.md`: `yes` it
works, `-` the client cannot do it, **no** it does not work. [The cases](../tests/clients/README.md#cases).
Several clients on one topic, Kafka Streams and Kafka Connect are tried by `tests/clients/run --shows`: [what they
do](../tests/clients/README.md#shows).

"""


class Cell:
    """How a case went with a client: passed, failed or not applicable, why, and in which time."""

    def __init__(self, client, case):
        self.client, self.case = client, case
        self.state, self.reason, self.seconds = "failed", "", 0.0


def run_cell(cell, command, fleet, prefix, log):
    """Runs the program; for failover, kills the leader when the program says so."""
    begun = time.monotonic()
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            [*command, cell.client, cell.case, fleet.bootstrap, prefix], stdout=subprocess.PIPE,
            stderr=errors, stdin=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True)
        lines, words = [], queue.Queue()
        threading.Thread(target=listen, args=(process.stdout, words), daemon=True).start()
        try:
            while (line := words.get(timeout=max(begun + SECONDS - time.monotonic(), 0))) is not None:
                if line.startswith("ready ") and cell.case == "failover":
                    kill_leader(fleet, *line.split()[1:])
                elif line:
                    lines.append(line)
            code = process.wait(10)
        except (queue.Empty, subprocess.TimeoutExpired):
            lines.append(f"not done within {SECONDS} s")
            code = None
        finally:
            end_session(process)
    cell.seconds = time.monotonic() - begun
    cell.state = {0: "passed", 3: "-"}.get(code, "failed")
    cell.reason = lines[-1] if lines else f"exit code {code}" if code else ""
    if cell.state == "passed" and cell.case in CHECKS:
        wrong = CHECKS[cell.case](list(wire.batches(fleet.addresses[0], f"{prefix}-{cell.case}")))
        if wrong:
            cell.state, cell.reason = "failed", wrong


def listen(stream, words):
    for line in stream:
        words.put(line.strip())
    words.put(None)


def end_session(process):
    """Ends the program and the processes it started, all of one session of their own."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()


def kill_leader(fleet, topic, partition):
    """SIGKILL for the broker that leads the partition."""
    leader = wire.leader_of(fleet.addresses[0], topic, int(partition))
    fleet.kill(leader)
    print(f"  killed {leader}, which led {topic}", file=sys.stderr)


def not_all_codecs(batches):
    """A client may pack nothing at all, say nothing, and read back what it has sent."""
    missing = set(wire.CODECS) - {codec for _first, _last, codec in batches}
    return missing and f"no batch is packed with {', '.join(sorted(missing))}"


def no_middle(batches):
    """Reading from offset 5 only says something if a batch begins before it."""
    middle = any(first < 5 <= last for first, last, _codec in batches)
    return not middle and f"offset 5 is not in the middle of a batch: {batches}"


# What the batches in the log must be like, once the program has passed; each says what is wrong.
CHECKS = {"codecs": not_all_codecs, "offsets": no_middle}


def known_failures():
    """The cells that may fail: a line each of client, case and reason."""
    lines = (HERE / "known.txt").read_text().splitlines()
    fields = [line.split(maxsplit=2) for line in lines if line.strip() and not line.startswith("#")]
    return {(client, case): reason for client, case, reason in fields}


def table(cells, clients, cases):
    """The matrix in Markdown, the reasons below it."""
    marks = {"passed": "yes", "-": "-", "failed": "**no**"}
    by_place = {(cell.client, cell.case): cell for cell in cells}
    lines = ["| client | version | " + " | ".join(cases) + " |", "|---" * (len(cases) + 2) + "|"]
    for client in clients:
        row = [by_place.get((client, case)) for case in cases]
        words = [client, version(client), *(marks[cell.state] if cell else "" for cell in row)]
        lines.append("| " + " | ".join(words) + " |")
    reasons = [cell for cell in cells if cell.reason]
    if reasons:
        lines.append("")
    for cell in reasons:
        lines.append(f"* {cell.client}, {cell.case} ({marks[cell.state]}): {cell.reason}")
    return "\n".join(lines) + "\n"


def set_up(options, clients, names):
    """Fetches and builds what is missing of that which is to be run."""
    if options.compare:
        folders = {"java"}
    elif names:
        folders = {folder for name in names for folder in SHOWS[name][0]}
    else:
        folders = {programs(options.cache)[client][0] for client in clients}
    folders |= {"java"} if options.kafka else set()
    subprocess.run([HERE / "setup", options.cache, *sorted(folders)], check=True)


def chosen(options, every):
    clients = options.clients.split(",") if options.clients else list(every)
    cases = options.cases.split(",") if options.cases else list(CASES)
    names = [] if options.shows is None else options.shows.split(",") if options.shows else list(SHOWS)
    for name in set(clients) - set(every) | set(cases) - set(CASES) | set(names) - set(SHOWS):
        sys.exit(f"there is no client, no case and no show {name}")
    return clients, cases, names


class Given:
    """Brokers that run already; none of them may be killed."""

    def __init__(self, bootstrap):
        self.bootstrap, self.addresses = bootstrap, bootstrap.split(",")

    def stop(self):
        pass


def start_fleet(options, folder, count, kafka=False):
    folder.mkdir()
    if kafka or options.kafka:
        fleet = brokers.kafka(folder, count, options.cache / "java/jars")
    else:
        fleet = brokers.mk(folder, count)
    try:
        fleet.wait()
    except RuntimeError:
        fleet.stop()
        raise
    return fleet


def run_matrix(options, clients, cases, folder):
    """Prints the matrix; whether all is well."""
    cells = run_all(options, clients, cases, folder)
    matrix = table(cells, clients, cases)
    print(matrix, end="")
    if options.out:
        options.out.write_text(PAGE + matrix)
    known = known_failures()
    passed = sum(cell.state == "passed" for cell in cells)
    failed = sum(cell.state == "failed" for cell in cells)
    print(f"\n{passed} passed, {failed} failed, {len(cells) - passed - failed} skipped")
    return all(cell.state != "failed" or (cell.client, cell.case) in known for cell in cells)


def run_all(options, clients, cases, folder):
    """All cells, some of them at a time: what they do most is wait."""
    cells = [Cell(client, case) for case in cases for client in clients
             if not options.half or case in HALF[client]]
    one = Given(options.bootstrap) if options.bootstrap else start_fleet(options, folder / "one", 1)
    try:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            for cell in pool.map(lambda cell: run_where_it_belongs(options, cell, one, folder), cells):
                tell(cell, folder)
    finally:
        one.stop()
    return cells


def run_where_it_belongs(options, cell, one, folder):
    """A failover in a cluster of its own, all else with the one broker."""
    directory, command = programs(options.cache)[cell.client]
    prefix, log = f"mk-{os.getpid()}-{cell.client}", folder / f"{cell.client}-{cell.case}.log"
    skips = [skip for name in (directory, cell.client) if (skip := options.cache / f"skip-{name}").exists()]
    if skips:
        cell.state, cell.reason = "-", skips[0].read_text().strip()
    elif cell.case != "failover":
        run_cell(cell, command, one, prefix, log)
    elif options.bootstrap:
        cell.state, cell.reason = "-", "brokers that were given are not killed"
    else:
        cluster = start_fleet(options, folder / f"cluster-{cell.client}", 3)
        try:
            run_cell(cell, command, cluster, prefix, log)
        finally:
            cluster.stop()
    return cell


def run_shows(options, names, folder):
    """Each show on one broker and on three, which are its own, as it may kill them; whether all went well."""
    commands, went_well = commands_of_shows(options.cache), True
    for count in (1, 3):
        for name in names:
            folders, run_it = SHOWS[name]
            if why := why_not(options, name, folders):
                print(f"skipped: {name}, brokers: {count}  {why}")
                continue
            fleet = start_fleet(options, folder / f"{name}-{count}", count)
            try:
                went_well &= stage.show(name, run_it, fleet, commands)
            finally:
                fleet.stop()
    return went_well


def why_not(options, name, folders):
    """Why a show cannot be run here, or None."""
    if options.kafka and name in shows.SHOWS:
        return "Apache Kafka does not understand mkctl"
    skips = (options.cache / f"skip-{folder}" for folder in folders)
    return next((skip.read_text().strip() for skip in skips if skip.exists()), None)


def run_compare(options, folder):
    def start(name):
        return start_fleet(options, folder / name, 1, name == "kafka")

    compare.compare(start, options.cache / "java/jars", options.compare)
    return True


def run_what_is_asked(options, clients, cases, names, folder):
    """Whether all is well."""
    if options.compare:
        return run_compare(options, folder)
    if names:
        return run_shows(options, names, folder)
    return run_matrix(options, clients, cases, folder)


def tell(cell, folder):
    words = f"{cell.state:7} {cell.seconds:5.1f} s  {cell.client} {cell.case}  {cell.reason}"
    print(words, file=sys.stderr)
    log = folder / f"{cell.client}-{cell.case}.log"
    if cell.state == "failed" and log.exists():
        for line in log.read_text(errors="replace").splitlines()[-15:]:
            print(f"        {line}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="a broker that runs; none is started")
    parser.add_argument("--kafka", action="store_true", help="start Apache Kafka instead of mk")
    parser.add_argument("--clients", metavar="A,B", help="only these")
    parser.add_argument("--cases", metavar="X,Y", help="only these")
    parser.add_argument("--half", action="store_true", help="each client and each case at least once")
    parser.add_argument("--fetch", action="store_true", help="instead, only fetch and build the clients")
    parser.add_argument("--no-fetch", action="store_true", help="the clients as they are")
    parser.add_argument("--shows", metavar="A,B", nargs="?", const="", help="instead, the shows, or these of them")
    parser.add_argument("--compare", metavar="ROUNDS", type=int, help="instead, how fast mk is beside Apache Kafka")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where the matrix is written, too")
    parser.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    clients, cases, names = chosen(options, programs(options.cache))
    if not options.no_fetch:
        set_up(options, clients, names)
    if options.fetch:
        return
    with tempfile.TemporaryDirectory(prefix="mk-clients-") as folder:
        try:
            well = run_what_is_asked(options, clients, cases, names, Path(folder))
        except RuntimeError as error:  # no broker, no matrix
            sys.exit(f"matrix: {error}")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
