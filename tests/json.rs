//! `docs/json.md` names every field that `-J` prints, and says what it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{Broker, data_dir, wait_until, with_input};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A row of a table.
struct Field {
    /// `a.b[].*`, at its dots.
    path: Vec<String>,
    kinds: Vec<String>,
    /// It may be missing.
    optional: bool,
}

/// The page, and which of its sections something was compared with.
struct Page {
    sections: BTreeMap<String, Vec<Field>>,
    seen: BTreeSet<String>,
}

impl Page {
    fn read() -> Page {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
        let text = std::fs::read_to_string(path).unwrap();
        let mut sections = BTreeMap::new();
        for section in text.split("\n## `mkctl ").skip(1) {
            let (verb, rest) = section.split_once("`\n").unwrap();
            let rows = rest.lines().filter(|line| line.starts_with("| `"));
            sections.insert(verb.to_owned(), rows.flat_map(fields).collect());
        }
        Page { sections, seen: BTreeSet::new() }
    }

    /// Compares what was printed, which must be something, with a section.
    fn compare(&mut self, verb: &str, printed: &str) {
        let fields = self.sections.get(verb).unwrap_or_else(|| panic!("no section {verb}"));
        assert!(!printed.is_empty(), "mkctl {verb} has printed nothing");
        for line in printed.lines() {
            let value: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("mkctl {verb}: {error}: {line}"));
            is_named(&value, &mut Vec::new(), fields, verb);
            for field in fields.iter().filter(|field| !field.optional) {
                assert!(is_there(&value, &field.path), "{verb}: no {:?} in {line}", field.path);
            }
        }
        self.seen.insert(verb.to_owned());
    }
}

fn fields(row: &str) -> Vec<Field> {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [names, kinds, text] = cells[..] else { panic!("{row}") };
    let field = |name: &str| {
        let name = name.trim_matches('`');
        let kinds = match name {
            "done" => "boolean",
            "error" => "string or null",
            _ => kinds,
        };
        Field {
            path: name.split('.').map(str::to_owned).collect(),
            kinds: kinds.split(" or ").map(str::to_owned).collect(),
            optional: text.starts_with("only") || name.contains('*'),
        }
    };
    names.split(", ").map(field).collect()
}

/// Every field of a value has its row, and is of its type.
fn is_named(value: &Value, path: &mut Vec<String>, fields: &[Field], verb: &str) {
    if let Value::Object(object) = value {
        for (name, value) in object {
            path.push(name.clone());
            is_named(value, path, fields, verb);
            path.pop();
        }
        return;
    }
    let same = |(pattern, name): (&String, &String)| pattern == "*" || pattern == name;
    let field = fields
        .iter()
        .find(|field| field.path.len() == path.len() && field.path.iter().zip(&*path).all(same));
    let field = field.unwrap_or_else(|| panic!("{verb}: docs/json.md does not name {path:?}"));
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "array",
    };
    let is_allowed = field.kinds.iter().any(|allowed| allowed.starts_with(kind));
    assert!(is_allowed, "{verb}: {path:?} is {value}, the page says {:?}", field.kinds);
    let objects = value.as_array().into_iter().flatten().filter(|element| element.is_object());
    for element in objects {
        let name = path.pop().unwrap();
        path.push(format!("{name}[]"));
        is_named(element, path, fields, verb);
        path.pop();
        path.push(name);
    }
}

/// The field is there, wherever that is which it belongs to.
fn is_there(value: &Value, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else { return true };
    match name.strip_suffix("[]") {
        Some(name) => {
            let elements = value.get(name).and_then(Value::as_array);
            elements.into_iter().flatten().all(|element| is_there(element, rest))
        }
        None => match value.get(name) {
            Some(inner) => inner.is_null() || is_there(inner, rest),
            None => false,
        },
    }
}

/// The commands below one that print JSON, as their help says.
fn verbs(path: &[String], found: &mut Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
    let output = command.args(path).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let Some((_, commands)) = help.split_once("\nCommands:\n") else {
        if help.contains("  -J, ") {
            found.push(path.join(" "));
        }
        return;
    };
    let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    let commands = commands.split("\n\n").next().unwrap().lines().filter(is_name);
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        if name != "help" {
            verbs(&[path, &[name.to_owned()]].concat(), found);
        }
    }
}

#[test]
fn every_command_that_prints_json_has_its_section() {
    let page = Page::read();
    let mut found = Vec::new();
    verbs(&[], &mut found);
    let of = |verb: &String| match verb.as_str() {
        "cat" | "tail" | "grep" => "consume".to_owned(),
        "config unset" => "config set".to_owned(),
        verb => verb.to_owned(),
    };
    let found: BTreeSet<String> = found.iter().map(of).collect();
    let named: BTreeSet<String> = page.sections.into_keys().collect();
    assert_eq!(found, named);
}

#[test]
fn every_field_that_is_printed_is_named() {
    let mut page = Page::read();
    let (root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &["--set", "log.retention.ms=-1"]);
    records(&mut page, &broker);
    topics(&mut page, &broker);
    groups(&mut page, &broker);
    tests_of_the_cluster(&mut page, &broker, root.path());
    broker.stop();
    cluster(&mut page, &root.path().join("cluster"));
    let named: BTreeSet<String> = page.sections.keys().cloned().collect();
    assert_eq!(page.seen, named, "sections that nothing was compared with");
}

/// What a command prints, however it ends.
fn printed(broker: &Broker, arguments: &[&str], input: &str) -> String {
    let output = with_input(broker.ctl(arguments), input.as_bytes());
    String::from_utf8(output.stdout).unwrap()
}

fn records(page: &mut Page, broker: &Broker) {
    let mut look = |verb: &str, arguments: &[&str], input: &str| {
        page.compare(verb, &printed(broker, arguments, input));
    };
    let create = ["topic", "create", "t", "-p", "2", "-c", "segment.ms=1", "-J"];
    look("topic create", &[&create[..], &["--dry-run"]].concat(), "");
    look("topic create", &create, "");
    look("topic create", &create, "");
    look("produce", &["produce", "t", "-J", "-K", ":"], "a:1\nnone\nb:2\n");
    look("produce", &["produce", "t", "-J", "--acks", "0"], "x\n");
    let odd = r#"{"key_base64":"/w==","value_base64":"/w==","timestamp":1000,
        "headers":[{"name":"a","value":"1"},{"name":"b","value_base64":"/w=="}]}"#;
    for _ in 0..2 {
        look("produce", &["produce", "t", "-J", "--json"], &odd.replace('\n', ""));
    }
    look("consume", &["cat", "t", "-J"], "");
    look("offsets", &["offsets", "t", "-J"], "");
    look("offsets", &["offsets", "t", "--at", "-1h", "-J"], "");
}

fn topics(page: &mut Page, broker: &Broker) {
    let mut look = |verb: &str, arguments: &[&str]| {
        page.compare(verb, &printed(broker, &[arguments, &["-J"]].concat(), ""));
    };
    look("topic list", &["topic", "list"]);
    look("topic describe", &["topic", "describe", "t"]);
    look("config describe", &["config", "describe", "t"]);
    look("config set", &["config", "set", "t", "retention.ms=1h", "--dry-run"]);
    look("config set", &["config", "set", "t", "flush=os"]);
    look("config set", &["config", "unset", "t", "flush"]);
    for flag in ["--dry-run", "-y"] {
        look("topic add-partitions", &["topic", "add-partitions", "t", "3", flag]);
        look("topic trim", &["topic", "trim", "t", "--before", "1", flag]);
        look("topic delete", &["topic", "delete", "missing", flag]);
        look("elect", &["elect", "t", "t:9", flag]);
    }
    broker.run(&["topic", "create", "gone"]);
    look("topic delete", &["topic", "delete", "gone", "--dry-run"]);
    look("topic delete", &["topic", "delete", "gone", "-y"]);
    look("cluster info", &["cluster", "info"]);
    look("cluster health", &["cluster", "health"]);
    look("cluster events", &["cluster", "events"]);
}

fn groups(page: &mut Page, broker: &Broker) {
    let mut member = Running::start(broker.ctl(&["consume", "t", "-g", "g", "-J"]));
    page.compare("consume", &member.lines.next().unwrap().unwrap());
    let mut look = |verb: &str, arguments: &[&str]| {
        page.compare(verb, &printed(broker, &[arguments, &["-J"]].concat(), ""));
    };
    look("group list", &["group", "list"]);
    look("group describe", &["group", "describe", "g"]);
    look("group members", &["group", "members", "g"]);
    look("clients", &["clients"]);
    look("top", &["top", "-n", "2", "-i", "1ms"]);
    look("group delete", &["group", "delete", "g", "-y"]);
    let mut watch = Running::start(broker.ctl(&["group", "describe", "g", "-w", "-J"]));
    // Those of the second look have rates.
    for line in watch.lines.by_ref().take(6) {
        page.compare("group describe", &line.unwrap());
    }
    member.interrupt();
    let mut look = |verb: &str, arguments: &[&str]| {
        page.compare(verb, &printed(broker, &[arguments, &["-J"]].concat(), ""));
    };
    for flag in ["--dry-run", "-y"] {
        look("group seek", &["group", "seek", "g", "--to", "start", "-t", "t", flag]);
        look("group delete", &["group", "delete", "g", "missing", flag]);
    }
}

fn tests_of_the_cluster(page: &mut Page, broker: &Broker, root: &Path) {
    let mut look = |verb: &str, arguments: &[&str]| {
        page.compare(verb, &printed(broker, &[arguments, &["-J"]].concat(), ""));
    };
    look("bench produce", &["bench", "produce", "load", "-n", "100", "-p", "2"]);
    look("bench consume", &["bench", "consume", "load"]);
    look("bench e2e", &["bench", "e2e", "load", "-n", "100"]);
    look("verify produce", &["verify", "produce", "checked", "-n", "100"]);
    look("verify consume", &["verify", "consume", "checked"]);
    look("durability-test", &["durability-test", "-n", "1", "--dir", root.to_str().unwrap()]);
    let profiles = root.join("profiles.json");
    let profile = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        let output = command.args(arguments).env("MK_PROFILES", &profiles).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    profile(&["profile", "set", "here", broker.address()]);
    page.compare("profile list", &profile(&["profile", "list", "-J"]));
}

/// A process whose lines are read as they come. It is killed when this is dropped.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// Ctrl-C; it must end in good order.
    fn interrupt(mut self) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::INT).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What only more than one broker can show.
fn cluster(page: &mut Page, data: &Path) {
    let mut start = Command::new(env!("CARGO_BIN_EXE_mkctl"));
    start.args(["cluster", "start", "-J", "--port", "0", "--zoo-port", "0", "--data"]).arg(data);
    let mut started = Running::start(start);
    let mut members = Vec::new();
    for line in started.lines.by_ref().take(4) {
        let line = line.unwrap();
        page.compare("cluster start", &line);
        members.push(serde_json::from_str::<Value>(&line).unwrap());
    }
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        command.args(["-b", members[1]["address"].as_str().unwrap()]).args(arguments);
        let output = with_input(command, b"1\n2\n3\n");
        String::from_utf8(output.stdout).unwrap()
    };
    ctl(&["topic", "create", "t", "-r", "1"]);
    ctl(&["produce", "t"]);
    let to_all = ["partition", "move", "t:0", "--to", "1,2,3", "--wait", "-J"];
    page.compare("partition move", &ctl(&to_all));
    page.compare("elect", &ctl(&["elect", "-J", "t"]));
    page.compare("topic describe", &ctl(&["topic", "describe", "t", "-J"]));
    let last = members[3]["pid"].as_u64().unwrap();
    kill_process(Pid::from_raw(last as i32).unwrap(), Signal::KILL).unwrap();
    let ended = started.lines.next().unwrap().unwrap();
    page.compare("cluster start", &ended);
    assert!(ended.contains("\"event\":\"ended\"") && ended.contains("broker-3"), "{ended}");
    wait_until("it is missed", || ctl(&["cluster", "health", "-J"]).contains("fenced"));
    // A move that cannot arrive, so that it is told how far it is.
    let mut waits = Command::new(env!("CARGO_BIN_EXE_mkctl"));
    waits.args(["-b", members[1]["address"].as_str().unwrap()]);
    waits.args(["partition", "move", "late:0", "--to", "1,3", "--wait", "-J"]);
    ctl(&["topic", "create", "late", "-r", "1"]);
    ctl(&["partition", "move", "late:0", "--to", "1"]);
    let mut waits = Running::start(waits);
    for line in waits.lines.by_ref().take(2) {
        page.compare("partition move", &line.unwrap());
    }
    page.compare("cluster info", &ctl(&["cluster", "info", "-J"]));
    page.compare("cluster health", &ctl(&["cluster", "health", "-J"]));
    page.compare("cluster events", &ctl(&["cluster", "events", "-J"]));
    page.compare("top", &ctl(&["top", "-n", "1", "-J"]));
    page.compare("partition move", &ctl(&["partition", "move", "late:0", "--cancel", "-J"]));
    started.interrupt();
}
