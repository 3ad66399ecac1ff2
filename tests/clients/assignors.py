"""What consumers do whose assignor no broker knows: shows, each on one broker and on three.

assignor  a group shares partitions by its rule.
rolling   a group goes over to it, one member after the other.
"""

from collections import Counter

from cases import equal

PARTITIONS = 6
RANGE = "org.apache.kafka.clients.consumer.RangeAssignor"
OWN = "Own"


class Members:
    """Consumers of one group, by their client.id; one that goes and comes again is two."""

    def __init__(self, stage):
        self.stage, self.printed = stage, []

    def join(self, client, *assignors):
        """One in a process of its own; what it has printed is kept when it has gone."""
        words = self.stage.topic, self.stage.group, client, ",".join(assignors)
        name = f"{client}-{len(self.printed)}"
        program = self.stage.start(client, self.stage.main(name, "member", *words))
        self.printed.append(program.printed)

    def share(self, **wanted):
        """Waits until each has the partitions that are named; mkctl tells the same."""
        def told():
            return {client: next((line for line in reversed(program.printed) if line.startswith("has")), "")
                    for client, program in self.stage.programs.items()}
        lines = {client: "".join(["has", *(f" {partition}" for partition in partitions)])
                 for client, partitions in wanted.items()}
        self.stage.until(lambda: told() == lines, f"the members have {wanted}")
        if self.stage.fleet.is_mk:
            rows = self.stage.groups("describe", self.stage.group)
            readers = {row["partition"]: row["client_id"] for row in rows}
            equal(readers, {partition: client for client in wanted for partition in wanted[client]}, "mkctl tells")

    def read(self):
        """How often each number was read."""
        return Counter(int(line.removeprefix("read ")) for printed in self.printed for line in list(printed)
                       if line.startswith("read "))

    def until_read(self, end):
        self.stage.until(lambda: not set(range(end)) - set(self.read()), f"{end} records are read")

    def twice(self):
        return sum(count > 1 for count in self.read().values())


def assignor(stage):
    """Two members with an assignor of their own; one leaves under load."""
    stage.create(stage.topic, PARTITIONS)
    every, members = range(PARTITIONS), Members(stage)
    members.join("b", OWN)
    members.share(b=every)
    members.join("a", OWN)
    members.share(a=every[:-1], b=every[-1:])
    stage.check_led("consumer")
    load = stage.load(stage.main("load", "produce", stage.topic))
    members.until_read(1000)
    stage.finish("a")
    members.share(b=every)
    stage.until(lambda: load.number > 3000, "3000 records are sent")
    end = load.stop()
    members.until_read(end)
    stage.finish("b")
    equal(members.twice(), 0, "records read twice")
    return f"{end} records, each read once"


def rolling(stage):
    """Two members go over from range to an assignor of their own under load, as in rolling restarts."""
    stage.create(stage.topic, PARTITIONS)
    every, members = range(PARTITIONS), Members(stage)
    halves = {"a": every[:3], "b": every[3:]}
    by_own_rule = {"a": every[:-1], "b": every[-1:]}
    members.join("a", RANGE)
    members.join("b", RANGE)
    members.share(**halves)
    load = stage.load(stage.main("load", "produce", stage.topic))
    for assignors, shares in (((RANGE, OWN), halves), ((OWN,), by_own_rule)):
        for client in ("a", "b"):
            members.until_read(load.number)
            stage.finish(client)
            members.join(client, *assignors)
            members.share(**shares)
    end = load.stop()
    members.until_read(end)
    stage.check_led("consumer")
    for client in ("a", "b"):
        stage.finish(client)
    return f"{end} records, all read, {members.twice()} twice while members went over"


SHOWS = {"assignor": assignor, "rolling": rolling}
