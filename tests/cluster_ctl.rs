//! `mkctl cluster`, `elect` and `partition move`, as those who run a cluster use them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use common::{Broker, data_dir, wait_until, with_input};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// `mkctl cluster start`. Whatever it has started is killed when this is dropped.
struct Started {
    child: Child,
    stderr: BufReader<ChildStderr>,
    members: Vec<Member>,
}

/// A line of the table.
struct Member {
    name: String,
    address: String,
    pid: Pid,
}

impl Started {
    fn start(data: &Path) -> Started {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        command.args(["cluster", "start", "--port", "0", "--zoo-port", "0", "--data"]).arg(data);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let members: Vec<Member> = lines.take(4).map(|line| member(&line)).collect();
        let mut started = Started { child, stderr, members };
        if started.members.len() < 4 {
            panic!("{}", started.said());
        }
        started
    }

    /// What it has said; it must have ended.
    fn said(&mut self) -> String {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        said
    }

    fn member(&self, name: &str) -> &Member {
        self.members.iter().find(|member| member.name == name).unwrap()
    }

    /// mkctl for a broker.
    fn ctl_of(&self, broker: u32, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        let address = &self.member(&format!("broker-{broker}")).address;
        command.args(["-b", address]).args(arguments);
        with_input(command, input)
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_of(1, arguments, b"")
    }

    fn kill(&self, broker: u32) {
        kill_process(self.member(&format!("broker-{broker}")).pid, Signal::KILL).unwrap();
    }

    fn leader(&self, asked: u32) -> Option<u64> {
        let output = self.ctl_of(asked, &["topic", "describe", "orders", "-J"], b"");
        let described: Value = serde_json::from_slice(&output.stdout).ok()?;
        described["partitions"][0]["leader"].as_u64()
    }

    /// A signal; it must end in good order, and everything that it has started with it.
    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status} {}", self.said());
        for member in &self.members {
            assert!(test_kill_process(member.pid).is_err(), "{} lives", member.name);
        }
        self.members.clear();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for member in &self.members {
            let _ = kill_process(member.pid, Signal::KILL);
        }
    }
}

fn member(line: &str) -> Member {
    let mut fields = line.split_whitespace().map(str::to_owned);
    let (name, address) = (fields.next().unwrap(), fields.next().unwrap());
    let pid = Pid::from_raw(fields.next().unwrap().parse().unwrap()).unwrap();
    Member { name, address, pid }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn produce(started: &Started, broker: u32, records: &[u8]) {
    let output = started.ctl_of(broker, &["produce", "orders", "-q"], records);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_cluster_starts_with_one_command_and_ends_with_one_signal() {
    let (_root, data) = data_dir();
    for (round, signal) in [Signal::TERM, Signal::INT, Signal::HUP].into_iter().enumerate() {
        let started = Started::start(&data);
        let names: Vec<&str> = started.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["mkzoo", "broker-1", "broker-2", "broker-3"]);
        produce(&started, 1 + round as u32, format!("{round}\n").as_bytes());
        let all = started.ctl(&["cat", "orders"]);
        let expected: String = (0..=round).map(|round| format!("{round}\n")).collect();
        assert_eq!(text(&all.stdout), expected, "{}", text(&all.stderr));
        started.end(signal);
    }
}

#[test]
fn an_incident_is_seen_told_and_mended() {
    let (_root, data) = data_dir();
    let mut started = Started::start(&data);
    produce(&started, 1, b"1\n2\n3\n");
    wait_until("all is well", || code(&started.ctl(&["cluster", "health"])) == 0);
    let leader = started.leader(1).unwrap() as u32;
    let other = leader % 3 + 1;
    let info: Value =
        serde_json::from_slice(&started.ctl(&["cluster", "info", "-J"]).stdout).unwrap();
    assert_eq!(info["brokers"].as_array().unwrap().len(), 3);
    assert_eq!(info["brokers"][leader as usize - 1]["leads"], 1);
    assert!(info["brokers"][0]["heard_ms"].as_u64().unwrap() < 10_000);

    started.kill(leader);
    let mut line = String::new();
    while !line.contains("has ended") {
        line.clear();
        assert!(started.stderr.read_line(&mut line).unwrap() > 0, "it says what has ended");
    }
    assert!(line.contains(&format!("broker-{leader}")) && line.contains("SIGKILL"), "{line}");
    produce(&started, other, b"4\n");
    let health = started.ctl_of(other, &["cluster", "health"], b"");
    let said = text(&health.stdout);
    assert_eq!(code(&health), 10, "{said}");
    assert!(said.contains(&format!("broker {leader} ")) && said.contains("is fenced"), "{said}");
    assert!(said.contains(&format!("orders:0 is not in sync on {leader}")), "{said}");

    let told = || text(&started.ctl_of(other, &["cluster", "events", "-J"], b"").stdout);
    wait_until("the first record is told of", || told().contains("\"first acknowledged\""));
    let events: Vec<Value> =
        told().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |kind: &str| {
        let found = events.iter().rposition(|event| event["kind"] == kind);
        found.unwrap_or_else(|| panic!("no '{kind}' in {events:#?}"))
    };
    let order = ["last heartbeat", "suspected", "fenced", "elected", "first acknowledged"].map(at);
    assert!(order.is_sorted(), "{order:?} {events:#?}");
    let since = |at: usize| events[at]["since_ms"].as_i64().unwrap();
    assert!(order[1..].iter().all(|at| (0..3000).contains(&since(*at))), "{events:#?}");

    // It comes back, and gets what was its own.
    assert_eq!(code(&started.ctl_of(other, &["elect"], b"")), 0, "there is nothing to do");
    let mut again = again(&started, &data, leader);
    let watched = started.ctl_of(other, &["cluster", "health", "-w", "-e"], b"");
    assert!(text(&watched.stdout).ends_with("healthy\n") && code(&watched) == 0);
    let elected = started.ctl_of(other, &["elect", "orders"], b"");
    assert_eq!(code(&elected), 0, "{}", text(&elected.stderr));
    assert!(text(&elected.stderr).contains(&format!("orders:0 broker {leader} leads")));
    assert_eq!(started.leader(other), Some(u64::from(leader)));
    leads_already(&started, other, leader);
    kill_process(Pid::from_raw(again.0.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(again.0.wait().unwrap().success());
    started.members.retain(|member| member.name != format!("broker-{leader}"));
    started.end(Signal::TERM);
}

/// `mkctl elect orders` on a healthy cluster failed, and said to start a broker.
fn leads_already(started: &Started, asked: u32, leader: u32) {
    for arguments in [&["elect", "orders"][..], &["elect", "orders:0", "--unclean", "-y"]] {
        let output = started.ctl_of(asked, arguments, b"");
        let said = text(&output.stderr);
        let expected = format!("orders:0 broker {leader} leads already\n");
        assert!(code(&output) == 0 && said == expected, "{arguments:?} {said}");
    }
}

/// A broker that was killed, on its directory.
fn again(started: &Started, data: &Path, broker: u32) -> Guard {
    let mut again = Command::new(env!("CARGO_BIN_EXE_mkbroker"));
    let address = &started.member(&format!("broker-{broker}")).address;
    let zoo = &started.member("mkzoo").address;
    again.arg("--data").arg(data.join(format!("broker-{broker}")));
    again.args(["--listen", address, "--zoo", zoo]).stdout(Stdio::null()).stderr(Stdio::null());
    Guard(again.spawn().unwrap())
}

/// A process that is killed when this is dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_partition_is_moved_and_led_by_hand() {
    let (_root, data) = data_dir();
    let started = Started::start(&data);
    let one = "min.insync.replicas=1";
    let create = started.ctl(&["topic", "create", "orders", "-r", "2", "-c", one]);
    assert_eq!(code(&create), 0, "{}", text(&create.stderr));
    produce(&started, 1, b"1\n2\n3\n");
    let moved = started.ctl(&["partition", "move", "orders:0", "--to", "3,2", "--wait"]);
    assert_eq!(code(&moved), 0, "{}", text(&moved.stderr));
    assert!(text(&moved.stderr).ends_with("orders:0 is there\n"), "{}", text(&moved.stderr));
    let described: Value =
        serde_json::from_slice(&started.ctl(&["topic", "describe", "orders", "-J"]).stdout)
            .unwrap();
    assert_eq!(described["partitions"][0]["replicas"], serde_json::json!([3, 2]));
    started.kill(3);
    wait_until("another leads", || started.leader(1) == Some(2));
    started.kill(2);
    wait_until("nobody leads", || started.leader(1).is_none());
    let health = text(&started.ctl(&["cluster", "health"]).stdout);
    assert!(health.contains("orders:0 has no leader; its replicas are 3,2"), "{health}");

    for flag in ["--dry-run", "-y"] {
        let nobody = started.ctl(&["elect", "--unclean", flag, "orders:0"]);
        let said = text(&nobody.stderr);
        assert!(code(&nobody) == 1 && said.contains("none of its replicas lives"), "{said}");
    }
    // It lives, but was not in sync last.
    let back = again(&started, &data, 3);
    let told = || text(&started.ctl(&["elect", "--unclean", "orders:0", "--dry-run"]).stderr);
    wait_until("it could be elected", || told().starts_with("mkctl: would "));
    assert!(told().contains("would let broker 3 lead orders:0, though it may lack"), "{}", told());
    let unasked = started.ctl(&["elect", "--unclean", "orders:0"]);
    assert!(code(&unasked) == 2 && text(&unasked.stderr).contains("needs -y"));
    assert_eq!(started.leader(1), None);
    let elected = started.ctl(&["elect", "--unclean", "orders:0", "-y", "-J"]);
    let told: Value = serde_json::from_slice(&elected.stdout).unwrap();
    assert_eq!((&told["leader"], &told["done"]), (&3.into(), &true.into()));
    drop(back);
    for arguments in [
        &["partition", "move", "orders:0", "--to", "1,9"][..],
        &["partition", "move", "orders:0", "--to", "1,1"],
        &["partition", "move", "orders:0", "--cancel"],
        &["partition", "move", "orders:7", "--to", "1"],
        &["partition", "move", "nothing:0", "--to", "1"],
        &["elect", "nothing:0"],
        &["elect", "orders:7"],
    ] {
        let output = started.ctl(arguments);
        let said = text(&output.stderr);
        assert!(code(&output) == 1 && said.starts_with("mkctl: "), "{arguments:?} {said}");
    }
    for arguments in [
        &["partition", "move", "orders", "--to", "1"][..],
        &["partition", "move", "orders:0"],
        &["partition", "move", "orders:0", "--to", "1", "--throttle", "0"],
        &["cluster", "start", "--brokers", "0"],
        &["cluster", "start", "--port", "65534"],
        &["cluster", "health", "-e"],
    ] {
        let output = started.ctl(arguments);
        assert_eq!(code(&output), 2, "{arguments:?} {}", text(&output.stderr));
    }
    started.end(Signal::TERM);
}

#[test]
fn a_broker_that_stands_alone_is_a_cluster_too() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run_with_input(&["produce", "orders", "-q"], b"1\n");
    assert_eq!(broker.run(&["cluster", "health"]), "healthy\n");
    let info = broker.run(&["cluster", "info"]);
    assert!(info.contains("inside broker 1"), "{info}");
    let events = broker.run(&["cluster", "events"]);
    assert!(events.contains("topic created") && events.contains("ready"), "{events}");
    broker.run(&["elect"]);
    let output = broker.ctl(&["partition", "move", "orders:0", "--to", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
