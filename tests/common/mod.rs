//! A broker as a process of its own, and mkctl beside it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

pub mod kafka;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mk_storage::disk::MappedDisk;
use rustix::process::{Pid, Signal, kill_process};

/// A running `mkbroker`. It is killed when this is dropped.
pub struct Broker {
    child: Child,
    address: String,
    ready: String,
}

impl Broker {
    /// Starts one on a free port.
    pub fn start(data: &Path) -> Broker {
        Broker::start_with(data, "127.0.0.1:0", &[])
    }

    /// Starts one with these flags, and waits until it says that it is ready.
    pub fn start_with(data: &Path, listen: &str, flags: &[&str]) -> Broker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkbroker"));
        command.arg("--data").arg(data).args(["--listen", listen]).args(flags);
        command.env("MKBROKER_LOG", "warn").stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        let mut broker = Broker { child, address: String::new(), ready: String::new() };
        let stdout = broker.child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut broker.ready).unwrap();
        let address = broker.ready.split_once("ready on ").expect(&broker.ready).1;
        broker.address = address.split_once(',').expect(&broker.ready).0.to_owned();
        broker
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The line that it printed when it was ready.
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; it must end in good order.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// mkctl for this broker.
    pub fn ctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        command.args(["-b", &self.address]).args(arguments);
        command
    }

    /// Runs mkctl, which must succeed; answers what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.run_with_input(arguments, b"").stdout).unwrap()
    }

    /// Runs mkctl, which must succeed, with this input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let output = with_input(self.ctl(arguments), input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mkctl {arguments:?}: {}\n{error}", output.status);
        output
    }

    /// Processor time that it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let after_name: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // Fields 14 and 15 of proc(5), in clock ticks, of which there are 100 a second.
        let ticks: u64 = after_name[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Bytes of memory that it holds.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command with this input; does not mind if it does not read it.
pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

/// Everything that `mkinspect verify` checks, in this process. The directory must be clean.
pub fn assert_clean(data: &Path) {
    let disk = MappedDisk::start().unwrap();
    for partition in mk_tools::find::partitions(&disk, data).unwrap() {
        for file in mk_tools::verify::partition(&disk, &partition).unwrap() {
            assert!(file.damage.is_empty(), "{:#?}", file.damage);
        }
    }
}

/// Waits until `ready` says so; fails after a minute.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A data directory that goes with the test.
pub fn data_dir() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    (root, data)
}
