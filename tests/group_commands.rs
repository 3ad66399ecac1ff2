//! `mkctl consume -g` and `mkctl group`, as one would use them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Broker, data_dir, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// The broker with a topic of three partitions and the numbers from 1 to 1000 in it.
fn broker_with_orders(data: &std::path::Path) -> Broker {
    let broker = Broker::start(data);
    broker.run(&["topic", "create", "orders", "-p", "3"]);
    produce(&broker, 1..=1000);
    broker
}

fn produce(broker: &Broker, numbers: std::ops::RangeInclusive<u32>) {
    let lines: Vec<String> = numbers.map(|number| format!("{number}\n")).collect();
    broker.run_with_input(&["produce", "orders", "-q"], lines.concat().as_bytes());
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

/// What it printed, and how it ended.
fn failed(mut command: Command) -> (String, Option<i32>) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

/// A field of all partitions of a group.
fn field(broker: &Broker, name: &str) -> Vec<serde_json::Value> {
    let text = broker.run(&["group", "describe", "billing", "-J"]);
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines().map(|line| parse(line)[name].clone()).collect()
}

fn lag(broker: &Broker) -> u64 {
    field(broker, "lag").iter().map(|lag| lag.as_u64().unwrap()).sum()
}

#[test]
fn a_group_reads_once_and_goes_on_where_it_was() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    assert_eq!(lines(&broker.run(&["consume", "orders", "-g", "billing", "-e"])), 1000);
    assert_eq!(lines(&broker.run(&["consume", "orders", "-g", "billing", "-e"])), 0);
    produce(&broker, 1001..=1100);
    let peeked = broker.run(&["consume", "orders", "-g", "billing", "--no-commit", "-e"]);
    assert_eq!((lines(&peeked), lag(&broker)), (100, 100), "a look changes nothing");
    let troubles = field(&broker, "trouble");
    assert!(troubles.contains(&"nobody reads it".into()), "{troubles:?}");
    let some = broker.run(&["consume", "orders", "-g", "billing", "-n", "40"]);
    assert_eq!((lines(&some), lag(&broker)), (40, 60), "what was printed is done");
    assert_eq!(broker.run(&["group", "list"]), "billing\tEmpty\tconsumer\tconsumer\t0\t3\n");
    broker.stop();
}

/// `-o end -e` printed nothing of what a group had not read, though it had been there: where to begin if it has
/// not was taken for where to begin.
#[test]
fn what_a_group_has_not_read_is_read_whatever_is_said_of_where_it_has_not_been() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    broker.run(&["consume", "orders", "-g", "billing", "-e"]);
    produce(&broker, 1001..=1100);
    // Where it has not been, it begins at the end.
    broker.run(&["topic", "create", "other"]);
    broker.run_with_input(&["produce", "other"], b"old\n");
    let read = ["consume", "orders", "other", "-g", "billing", "-o", "end", "-e"];
    assert_eq!((lines(&broker.run(&read)), lag(&broker)), (100, 0));
    assert_eq!(lines(&broker.run(&read)), 0);
    broker.stop();
}

/// Whoever looked on where a group was never saw the partitions that a topic got meanwhile.
#[test]
fn whoever_looks_on_sees_added_partitions() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    broker.run(&["consume", "orders", "-g", "billing", "-e"]);
    let mut beside = broker
        .ctl(&["consume", "orders", "-g", "billing", "--no-commit", "-n", "2", "-f", "%p %v\\n"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    produce(&broker, 1001..=1001);
    let mut printed = BufReader::new(beside.stdout.take().unwrap());
    let mut first = String::new();
    printed.read_line(&mut first).unwrap();
    assert!(first.ends_with(" 1001\n"), "{first}");
    broker.run(&["topic", "add-partitions", "-y", "orders", "4"]);
    broker.run_with_input(&["produce", "orders", "-q", "-p", "3"], b"added\n");
    let mut second = String::new();
    printed.read_line(&mut second).unwrap();
    assert_eq!(second, "3 added\n");
    assert!(beside.wait().unwrap().success());
    broker.stop();
}

#[test]
fn members_are_shown_and_leave_at_ctrl_c() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    let mut member = broker
        .ctl(&["consume", "orders", "-g", "billing", "--instance-id", "one"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("all is acknowledged", || {
        let described = broker.ctl(&["group", "describe", "billing", "-J"]).output().unwrap();
        described.status.success() && lag(&broker) == 0
    });
    // What a member asks for says that it has been given all before.
    wait_until("all is delivered", || {
        field(&broker, "delivered").iter().filter_map(|d| d.as_u64()).sum::<u64>() == 1000
    });
    assert!(field(&broker, "client_id").iter().all(|client| client == "mkctl"));
    let members = broker.run(&["group", "members", "billing"]);
    assert!(members.contains("\tone\tmkctl\t127.0.0.1\t"), "{members}");
    assert!(members.ends_with("\torders:0,1,2\n"), "{members}");
    let (error, code) = failed(broker.ctl(&["group", "seek", "billing", "--to", "start", "-y"]));
    assert!(error.contains("NON_EMPTY_GROUP") && code == Some(1), "{error}");
    let pid = Pid::from_raw(member.id() as i32).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(member.wait().unwrap().success());
    let mut printed = String::new();
    member.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(lines(&printed), 1000);
    broker.stop();
}

#[test]
fn top_shows_what_moves() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    broker.run(&["topic", "create", "quiet"]);
    broker.run(&["consume", "orders", "-g", "billing", "-n", "900"]);
    let mut top = broker.ctl(&["top", "-n", "2", "-i", "5s"]);
    let mut top = top.stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(top.stdout.take().unwrap());
    let mut first = String::new();
    while !first.contains("\nGROUP") {
        assert!(printed.read_line(&mut first).unwrap() > 0, "{first}");
    }
    produce(&broker, 1001..=1500);
    let mut second = String::new();
    printed.read_to_string(&mut second).unwrap();
    assert!(top.wait().unwrap().success());
    let output = format!("{first}{second}");
    assert!(first.starts_with("brokers 1/1  partitions "), "{output}");
    // What moves most comes first; of the first look there is no rate.
    let topics = second.split_once("TOPIC").unwrap().1.lines().nth(1).unwrap();
    let fields: Vec<&str> = topics.split_whitespace().collect();
    let rate: u64 = fields[2].parse().unwrap();
    assert_eq!((fields[0], fields[1], fields[3]), ("orders", "3", "1500"), "{output}");
    assert!((50..=100).contains(&rate), "{output}");
    let group = second.split_once("GROUP").unwrap().1.lines().nth(1).unwrap();
    let fields: Vec<&str> = group.split_whitespace().collect();
    assert_eq!(fields[..4], ["billing", "Empty", "0", "600"], "{output}");
    let behind: f64 = fields[4].strip_suffix('s').unwrap().parse().unwrap();
    let came: u64 = fields[5].parse().unwrap();
    assert!(behind > 0.0 && came > 0 && fields.len() == 7, "{output}");
    assert!(second.contains("mkctl"), "{output}");
    broker.stop();
}

#[test]
fn a_group_goes_on_where_it_is_told_to() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    broker.run(&["consume", "orders", "-g", "billing", "-e"]);
    let seek = |to: &str, more: &[&str]| {
        let command = [&["group", "seek", "billing", "--to", to], more].concat();
        broker.run(&command)
    };
    seek("start", &["--dry-run"]);
    assert_eq!(lag(&broker), 0, "nothing was done");
    let (error, code) = failed(broker.ctl(&["group", "seek", "billing", "--to", "start"]));
    assert!(error.contains("needs -y") && code == Some(2), "{error}");
    seek("start", &["-y"]);
    assert_eq!(lag(&broker), 1000);
    assert_eq!(lines(&broker.run(&["consume", "orders", "-g", "billing", "-e"])), 1000);
    let before = broker.run(&["group", "describe", "billing", "-J"]);
    seek("-100", &["-y"]);
    let back: u64 = lag(&broker);
    assert!((100..=300).contains(&back), "{back}");
    let file = data.parent().unwrap().join("far.jsonl");
    std::fs::write(&file, before).unwrap();
    seek(&format!("file:{}", file.display()), &["-y"]);
    assert_eq!(lag(&broker), 0);
    seek("@-1h", &["-y", "-t", "orders"]);
    assert_eq!(lag(&broker), 1000);
    // Behind the end there is nothing to come to.
    seek("999999", &["-y"]);
    assert_eq!(field(&broker, "acked"), field(&broker, "end"));
    seek("start", &["-y"]);
    seek("end", &["-y"]);
    assert_eq!(lag(&broker), 0);
    broker.run(&["group", "delete", "billing", "--dry-run"]);
    broker.run(&["group", "delete", "billing", "-y"]);
    let (error, code) = failed(broker.ctl(&["group", "describe", "billing"]));
    assert!(error.contains("GROUP_ID_NOT_FOUND") && code == Some(1), "{error}");
    broker.stop();
}

/// Of several groups, those behind one that could not be deleted stayed, and nobody was told which were gone.
#[test]
fn a_group_that_cannot_be_deleted_holds_up_no_other() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    for group in ["first", "last"] {
        broker.run(&["consume", "orders", "-g", group, "-e"]);
    }
    let mut member =
        broker.ctl(&["consume", "orders", "-g", "read"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(member.stdout.take().unwrap());
    printed.read_line(&mut String::new()).unwrap();
    let delete = |flag: &str| {
        failed(broker.ctl(&["group", "delete", flag, "first", "missing", "read", "last"]))
    };
    let (error, code) = delete("--dry-run");
    assert!(error.contains("there is no group 'missing'"), "{error}");
    assert!(error.contains("group 'read' has 1 members"), "{error}");
    let would = "would forget how far first (3 partitions), last (3 partitions) has come";
    assert!(error.contains(would) && code == Some(1), "{error}");
    let (error, code) = delete("-y");
    assert!(error.contains("first: deleted\n") && error.contains("last: deleted\n"), "{error}");
    assert!(error.contains("'missing'") && error.contains("NON_EMPTY_GROUP"), "{error}");
    assert_eq!(code, Some(1));
    assert_eq!(lines(&broker.run(&["group", "list"])), 1);
    // A look at where it would go on tells of members, too.
    let seek = ["group", "seek", "read", "--to", "start", "-t", "orders", "--dry-run"];
    let (error, code) = failed(broker.ctl(&seek));
    assert!(error.contains("NON_EMPTY_GROUP") && code == Some(1), "{error}");
    drop(printed);
    member.kill().unwrap();
    member.wait().unwrap();
    broker.stop();
}

/// A member that is slow on purpose: how far it is behind in time is known, and what is told must be that.
#[test]
fn lag_in_seconds_is_the_age_of_the_first_record_that_is_not_acknowledged() {
    let (_root, data) = data_dir();
    let broker = broker_with_orders(&data);
    broker.run(&["consume", "orders", "-g", "billing", "-e"]);
    let begin = std::time::Instant::now();
    produce(&broker, 1001..=1001);
    let sent = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(1500));
    produce(&broker, 1002..=1010);
    let asked = std::time::Instant::now();
    let told = field(&broker, "behind_ms").iter().map(|ms| ms.as_u64().unwrap()).max().unwrap();
    let (least, most) = (asked - sent, begin.elapsed());
    let told = Duration::from_millis(told);
    let slack = Duration::from_millis(2);
    assert!(told + slack >= least && told <= most + slack, "{least:?} {told:?} {most:?}");
    broker.stop();
}
