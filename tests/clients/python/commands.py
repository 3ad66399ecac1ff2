"""For clients that are commands: running them, and the last word of a case that failed."""

import subprocess
import sys
import threading
import traceback

from cases import CODECS, NotApplicable, equal, say


def main(module, case, bootstrap, prefix):
    """Runs a case of the module, and ends the process as the runner wants it."""
    try:
        module[case](bootstrap, f"{prefix}-{case}")
    except NotApplicable as why:
        print(why)
        sys.exit(3)
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)
        sys.exit(1)


def run(command, text="", seconds=60):
    """What the command writes when `text` is its input; it must end well."""
    say("$", " ".join(str(word)[:100] for word in command))
    ended = subprocess.run(command, input=text.encode(), capture_output=True, timeout=seconds)
    say(ended.stderr.decode(errors="replace")[-2000:])
    if ended.returncode != 0:
        words = (ended.stderr + ended.stdout).decode(errors="replace").strip().splitlines() or [""]
        raise RuntimeError(f"{command[-1]}: exit code {ended.returncode}: {words[-1]}")
    return ended.stdout.decode()


class Running:
    """A command that goes on: its lines come one by one, its input is open."""

    def __init__(self, command, on_line, stream="stdout"):
        say("$", " ".join(str(word)[:100] for word in command), "&")
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: subprocess.PIPE}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, errors="replace", **pipes)
        self.lines, self.on_line = getattr(self.process, stream), on_line
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.lines:
            self.on_line(line.rstrip("\n"))

    def ended(self, seconds=30):
        """Waits for its end, and gives its exit code."""
        code = self.process.wait(seconds)
        self.thread.join(5)
        return code

    def stop(self):
        self.process.terminate()
        return self.ended()


class Member:
    """A command that reads as a member of a group; heard(member, line) fills partitions and records."""

    error = None  # a command tells of it by its exit code

    def __init__(self, command, heard):
        self.partitions, self.records = set(), []
        self.running = Running(command, lambda line: heard(self, line))

    def leave(self):
        self.running.stop()


def numbers(lines):
    return [int(line) for line in lines]


def every_codec(produce, consume):
    """The case codecs: what each codec has packed reads back equal, out of one log."""
    sent = []
    for codec in CODECS:
        lines = [f"{codec} {n} " * 50 for n in range(20)]
        produce(codec, lines)
        sent += lines
    equal(consume(len(sent)), sent, "records of all codecs")
