//! What `mkctl` tells of a cluster while something happens to it, and where it reads from.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use common::{wait_until, with_input};
use machines::{Machines, Setup, own_address};
use serde_json::{Value, json};

/// An `mkctl` that goes on; killed when this is dropped.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(machines: &Machines, broker: u32, arguments: &[&str]) -> Watch {
        let mut child = machines.ctl(broker, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Watch { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().expect("it goes on").unwrap()).unwrap()
    }

    fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next();
            if event["kind"] == kind {
                return event;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(machines: &Machines, arguments: &[&str]) -> (i32, String, String) {
    let output = machines.ctl(1, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn info(machines: &Machines) -> Value {
    serde_json::from_str(&ask(machines, &["cluster", "info", "-J"]).1).unwrap()
}

fn produce(machines: &Machines, topic: &str, records: &[u8]) {
    let output = with_input(machines.ctl(1, &["produce", topic, "-q"]), records);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `health -w` said the same twice a second while a broker was fenced: how long ago it had been heard of
/// had changed.
#[test]
fn who_watches_is_told_what_changes_and_nothing_else() {
    let mut machines = Machines::start();
    let mut health = Watch::start(&machines, 1, &["cluster", "health", "-w", "-J"]);
    assert_eq!(health.next(), json!({ "healthy": true, "troubles": [] }));
    let mut events = Watch::start(&machines, 1, &["cluster", "events", "-f", "-n", "1", "-J"]);
    events.next();
    for _ in 0..2 {
        machines.kill_broker(3);
        let fenced = health.next();
        assert_eq!(fenced["healthy"], false);
        assert!(fenced["troubles"][0].as_str().unwrap().ends_with("is fenced"), "{fenced}");
        assert!(events.next_of("fenced")["broker"] == 3);
        // Longer than twice its interval: were it told again, it would be the next line.
        let (code, said, _) = ask(&machines, &["cluster", "health"]);
        assert!(code == 10 && said.contains("is fenced, heard of "), "{said}");
        std::thread::sleep(std::time::Duration::from_millis(1200));
        machines.start_broker(3);
        assert_eq!(health.next(), json!({ "healthy": true, "troubles": [] }));
        assert!(events.next_of("ready")["broker"] == 3);
    }
}

#[test]
fn what_a_cluster_without_its_zookeeper_is_told_as() {
    let mut machines = Machines::start();
    produce(&machines, "orders", b"1\n");
    machines.zoo.take().unwrap().kill();
    wait_until("it is noticed", || ask(&machines, &["cluster", "health"]).0 == 10);
    let (code, said, _) = ask(&machines, &["cluster", "health", "-J"]);
    let health: Value = serde_json::from_str(&said).unwrap();
    let address = machines.zoo_address().to_owned();
    let trouble = format!("the zookeeper {address} does not answer: ");
    assert!(code == 10 && health["troubles"].as_array().unwrap().len() == 1, "{said}");
    assert!(health["troubles"][0].as_str().unwrap().starts_with(&trouble), "{said}");
    assert!(info(&machines)["zookeeper_fault"].is_string());
    assert_eq!(info(&machines)["brokers"].as_array().unwrap().len(), 3);
    produce(&machines, "orders", b"2\n");
    let (code, _, said) = ask(&machines, &["topic", "create", "more", "--timeout", "1s"]);
    assert!(code == 1 && said.contains("\nhint: "), "{said}");
    machines.restart_zoo();
    wait_until("all is well", || ask(&machines, &["cluster", "health"]).0 == 0);
    assert!(info(&machines)["zookeeper_fault"].is_null());
}

#[test]
fn a_move_is_slowed_down_watched_and_called_off() {
    let machines = Machines::start();
    let create = ["topic", "create", "orders", "-r", "2", "-c", "min.insync.replicas=1"];
    assert_eq!(ask(&machines, &create).0, 0);
    produce(&machines, "orders", &[&[b'x'; (1 << 20) - 1][..], b"\n"].concat().repeat(4));
    let describe = || -> Value {
        let said = ask(&machines, &["topic", "describe", "orders", "-J"]).1;
        serde_json::from_str::<Value>(&said).unwrap()["partitions"][0].clone()
    };
    let before = describe();
    let on: Vec<u64> = serde_json::from_value(before["replicas"].clone()).unwrap();
    let other = 6 - on[0] - on[1];
    let goal = format!("{other},{}", on[0]);
    let go = |more: &[&str]| {
        let arguments = [&["partition", "move", "orders:0", "--to", &goal], more].concat();
        ask(&machines, &arguments)
    };
    // At 100 bytes a second the second batch waits for hours.
    assert_eq!(go(&["--throttle", "100"]).0, 0);
    let moves = info(&machines)["moves"].clone();
    assert_eq!(moves[0]["topic"], "orders");
    assert_eq!((&moves[0]["from"], &moves[0]["to"]), (&json!(on), &json!([other, on[0]])));
    let (_, said, _) = ask(&machines, &["cluster", "info"]);
    assert!(said.contains("orders:0"), "{said}");

    assert_eq!(ask(&machines, &["partition", "move", "orders:0", "--cancel"]).0, 0);
    wait_until("it is called off", || info(&machines)["moves"] == json!([]));
    assert_eq!(describe()["replicas"], json!(on));

    // Begun slowly, then allowed to run.
    assert_eq!(go(&["--throttle", "100"]).0, 0);
    let (code, _, said) = go(&["--throttle", "100MiB", "--wait"]);
    assert!(code == 0 && said.ends_with("orders:0 is there\n"), "{said}");
    assert_eq!(describe()["replicas"], json!([other, on[0]]));
    assert_eq!(describe()["end"], before["end"]);
}

/// What a process has written to files and sockets.
fn written(machines: &Machines, broker: u32) -> u64 {
    let io = Path::new("/proc").join(machines.brokers[&broker].id().to_string()).join("io");
    let io = fs::read_to_string(io).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn records_are_read_from_the_rack_that_is_named() {
    const BYTES: usize = 4 << 20;
    let mut machines = Machines::start_zoo("127.0.0.10:0", &[]);
    for id in 1..=3 {
        let (listen, zoo) = (own_address(id), machines.zoo_address().to_owned());
        machines.set_up(id, Setup { listen, zoo, settings: vec![format!("broker.rack=r{id}")] });
        machines.start_broker(id);
    }
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    produce(&machines, "t", &line.repeat(BYTES / 1024));
    let healthy = || ask(&machines, &["cluster", "health"]).0 == 0;
    wait_until("all replicas have it", healthy);
    for rack in 1..=3 {
        let before: Vec<u64> = (1..=3).map(|id| written(&machines, id)).collect();
        let mut command = machines.ctl(1, &["consume", "t", "-o", "start", "-e", "--rack"]);
        let read = tempfile::NamedTempFile::new().unwrap();
        let to = File::create(read.path()).unwrap();
        assert!(command.arg(format!("r{rack}")).stdout(to).status().unwrap().success());
        assert_eq!(fs::metadata(read.path()).unwrap().len(), BYTES as u64);
        for id in 1..=3 {
            let sent = written(&machines, id) - before[id as usize - 1];
            let expected = if id == rack { BYTES as u64 } else { 0 };
            assert!((expected..expected + 65536).contains(&sent), "rack r{rack}: {id} sent {sent}");
        }
    }
}
