"""Kafka's own performance tools against mk and against Apache Kafka, on one machine, in turns.

Both brokers run from the beginning to the end, and one of them has work at a time. Each figure is the median of
the rounds; before them is one that does not count. What Kafka acknowledges is in the page cache, unless a
topic's flush.messages says otherwise: that one is like mk's flush=ack, the default of Kafka is like flush=os.
"""

import os
import re
import statistics
import subprocess
from collections import defaultdict

import brokers

# As in Kafka's own start script.
KAFKA_OPTIONS = "-Xms1g -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35"
# Of each kind of acknowledgement those who give it: the broker, and what its topic is set to.
CONTESTANTS = {
    "1": [("mk", "flush=os"), ("kafka", None)],
    "all": [("mk", "flush=ack"), ("kafka", "flush.messages=1"), ("kafka", None)],
}
RECORDS = {100: 2_000_000, 1024: 300_000}  # how many of each size
SYNCING = 10  # a Kafka that syncs each batch gets a tenth of that, and takes as long
# Latency is measured with fewer records than are taken, or it is the time in the producer's queue. So long that
# the start of Java is no 1 % of them.
RATE, SECONDS, PACED_SIZE = 1_000, 40, 1024


class Side:
    """One of the two brokers, and the tools for it."""

    def __init__(self, name, fleet, jars):
        self.name, self.fleet, self.jars = name, fleet, jars
        [self.process] = fleet.processes.values()

    def tool(self, name, *arguments):
        """The last line that one of Kafka's tools prints."""
        java = ["java", "-Xmx512m", "-cp", f"{self.jars}/*", f"org.apache.kafka.tools.{name}"]
        return run([*java, *(str(one) for one in arguments)]).splitlines()[-1]

    def create(self, topic, setting):
        if self.name == "mk":
            mkctl = [brokers.binary("mkctl"), "-b", self.fleet.bootstrap]
            run([*mkctl, "topic", "create", topic, "-p", "4", "-c", setting])
        else:
            self.tool("TopicCommand", "--bootstrap-server", self.fleet.bootstrap, "--create", "--topic", topic,
                      "--partitions", 4, *(["--config", setting] if setting else []))

    def produce(self, topic, acks, size, count, rate):
        """Records a second, and the 50th and 99th percentile of their latency in ms."""
        told = self.tool("ProducerPerformance", "--topic", topic, "--num-records", count, "--record-size", size,
                         "--throughput", rate, "--producer-props",
                         f"bootstrap.servers={self.fleet.bootstrap}", f"acks={acks}")
        found = re.search(r", ([\d.]+) records/sec.* (\d+) ms 50th.* (\d+) ms 99th", told)
        return [float(word) for word in found.groups()]

    def consume(self, topic, count):
        """Records a second, without the time that it takes to join the group."""
        told = self.tool("ConsumerPerformance", "--bootstrap-server", self.fleet.bootstrap, "--topic", topic,
                         "--messages", count, "--hide-header")
        return float(told.split(", ")[9])

    def memory(self):
        """MiB that are the broker's own: neither files that it maps nor the page cache."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(r"RssAnon:\s+(\d+)", status.read())[1]) / 1024


    def processor(self):
        """Seconds of processor time that the broker has used."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measure(side, acks, size, setting, topic, paced):
    """MB/s produced and consumed, the broker's processor time for a GB of both and its memory in MiB; if it is
    to be paced, the latency, too."""
    side.create(topic, setting)
    os.sync()  # what others have left to be written is not to count
    before = side.processor()
    count = RECORDS[size] // (SYNCING if setting == "flush.messages=1" else 1)
    produced, _, _ = side.produce(topic, acks, size, count, -1)
    consumed = side.consume(topic, count)
    used = (side.processor() - before) / (count * size / 1e9)
    figures = {"produced": produced * size / 1e6, "consumed": consumed * size / 1e6, "processor": used,
               "memory": side.memory()}
    if paced:
        _, figures["p50"], figures["p99"] = side.produce(topic, acks, size, SECONDS * RATE, RATE)
    return figures


def compare(start, jars, rounds):
    """Prints the table; `start` starts a broker by its name."""
    os.environ.setdefault("KAFKA_OPTS", KAFKA_OPTIONS)
    rows = [(acks, size, name, setting) for acks, some in CONTESTANTS.items() for size in RECORDS
            for name, setting in some]
    sides, figures = {}, defaultdict(list)
    try:
        for name in ("mk", "kafka"):
            sides[name] = Side(name, start(name), jars)
        for number in range(rounds + 1):
            for place, row in enumerate(rows):
                acks, size, name, setting = row
                paced = size == PACED_SIZE and number > 0
                found = measure(sides[name], acks, size, setting, f"compare-{number}-{place}", paced)
                print(number, *row, {what: round(value, 1) for what, value in found.items()}, flush=True)
                if number > 0:
                    figures[row].append(found)
    finally:
        for side in sides.values():
            side.fleet.stop()
    print(table(figures))


def table(figures):
    """Medians; and the median of what mk has of the other's, round by round."""
    lines = ["| acks | records | broker | topic | produced | mk has | consumed | mk has "
             "| processor | p50 | p99 | memory |", "|---" * 12 + "|"]
    for (acks, size, name, setting), rounds in figures.items():
        ours = next(found for row, found in figures.items() if row[:3] == (acks, size, "mk"))

        def median(what, unit, digits=0):
            known = [found[what] for found in rounds if what in found]
            return f"{statistics.median(known):.{digits}f} {unit}" if known else ""

        def ratio(what):
            pairs = zip(ours, rounds)
            return "" if name == "mk" else f"{statistics.median(a[what] / b[what] for a, b in pairs):.2f}"

        words = [acks, f"{size} B", name, setting or "default", median("produced", "MB/s"), ratio("produced"),
                 median("consumed", "MB/s"), ratio("consumed"), median("processor", "s/GB", 1),
                 median("p50", "ms"), median("p99", "ms"), median("memory", "MiB")]
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)
