//! Which system calls move a record's bytes: into the log by the map, out of it by sendfile; and how many
//! it takes to find them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::kafka::{self, KafkaClient, append};
use common::{Broker, data_dir, wait_until};
use mk_storage::batch::Header;
use rustix::process::{Pid, Signal, kill_process};

/// MK_TEST_BYTES is how much is produced and consumed; the default is small enough for every day.
fn bytes() -> u64 {
    std::env::var("MK_TEST_BYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(64 << 20)
}

/// strace on all threads of a broker, until it is stopped.
struct Strace {
    child: Child,
    output: std::path::PathBuf,
}

impl Strace {
    fn start(broker: &Broker, output: &Path, flags: &[&str]) -> Strace {
        let mut command = Command::new("strace");
        command.args(flags).args(["-f", "-p", &broker.id().to_string(), "-o"]).arg(output);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let strace = Strace { child, output: output.to_owned() };
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
            !status.lines().any(|line| line == "TracerPid:\t0")
        };
        wait_until("strace is there", traced);
        strace
    }

    fn stop(mut self) -> String {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.child.wait().unwrap();
        std::fs::read_to_string(&self.output).unwrap()
    }
}

/// Calls by name, from the lines of `strace -y`, with the bytes that they say they moved.
fn moved(trace: &str) -> BTreeMap<String, (u64, u64)> {
    let mut calls: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in trace.lines() {
        let Some((_, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let name: String = call.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let result = call.rsplit_once(" = ").map(|(_, result)| result);
        let result = result.and_then(|result| result.split(' ').next()?.parse::<u64>().ok());
        if let Some(bytes) = result {
            let entry = calls.entry(name).or_default();
            entry.0 += 1;
            entry.1 += bytes;
        }
    }
    calls
}

/// Finding the range of a file that a fetch is answered with takes few reads, however large the segment is.
#[test]
fn a_fetch_of_old_records_reads_few_times() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let (root, data) = data_dir();
    let broker = Broker::start(&data);
    let settings = ["-c", "segment.bytes=32MiB", "-c", "retention.ms=-1", "-c", "flush=os"];
    broker.run(&[&["topic", "create", "t"][..], &settings].concat());
    let mut client = KafkaClient::connect(broker.address());
    let mut written = 0;
    while written < bytes() as usize {
        // About 16 KiB.
        written += append(&mut client, "t", 1, 1200);
    }
    let strace = Strace::start(&broker, &root.path().join("out"), &["-e", "trace=pread64"]);
    let (mut at, mut fetches, mut read) = (0, 0, 0);
    while read < written {
        let records = kafka::fetch(&mut client, "t", at);
        fetches += 1;
        read += records.len();
        let mut rest = &records[..];
        while !rest.is_empty() {
            let header = Header::parse(rest).unwrap();
            at = header.next_offset().0 as i64;
            rest = &rest[header.size..];
        }
    }
    let reads = moved(&strace.stop()).get("pread64").map_or(0, |(calls, _)| *calls);
    println!("{reads} preads for {fetches} fetches");
    assert!(reads <= 8 * fetches, "{reads} preads for {fetches} fetches");
}

#[test]
fn payload_goes_in_through_the_map_and_out_by_sendfile() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let (root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "t"]);
    let file = root.path().join("input");
    let record = vec![b'x'; 1 << 20];
    std::fs::write(&file, &record).unwrap();
    let count = bytes() >> 20;
    let files: Vec<&str> = (0..count).map(|_| file.to_str().unwrap()).collect();

    let calls = "trace=write,pwrite64,writev,pwritev,pwritev2,sendfile,sendto,sendmsg,splice";
    let strace = Strace::start(&broker, &root.path().join("in"), &["-y", "-e", calls]);
    for some in files.chunks(512) {
        let arguments = [&["produce", "t", "--whole", "-q"], some].concat();
        broker.run(&arguments);
    }
    let trace = strace.stop();
    let to_segments: Vec<&str> =
        trace.lines().filter(|line| line.contains(".log>") || line.contains("index>")).collect();
    println!("while {count} MiB were produced: {:?}", moved(&trace));
    assert!(to_segments.is_empty(), "written to segment files: {to_segments:#?}");

    let strace = Strace::start(&broker, &root.path().join("out"), &["-y", "-e", calls]);
    let output = broker.run_with_input(&["consume", "t", "-o", "start", "-e", "-f", "%v"], b"");
    assert_eq!(output.stdout.len() as u64, count << 20);
    let trace = strace.stop();
    let calls = moved(&trace);
    println!("while {count} MiB were consumed: {calls:?}");
    assert!(calls["sendfile"].1 >= count << 20, "{calls:?}");
    let other: u64 =
        calls.iter().filter(|(name, _)| *name != "sendfile").map(|(_, (_, bytes))| bytes).sum();
    assert!(other < 64 << 10, "{other} bytes left by other calls: {calls:?}");
}
