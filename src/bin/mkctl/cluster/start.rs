//! `mkctl cluster start`: mkzoo and brokers as processes of their own, until Ctrl-C.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::args::StartArgs;
use crate::outcome::Failure;
use crate::program::{address_in, program, ready_line};
use crate::table;

/// A process of the cluster.
struct Member {
    name: String,
    address: String,
    pid: u32,
    data: PathBuf,
    log: PathBuf,
}

/// A process has ended.
struct Ended {
    pid: u32,
    status: std::io::Result<ExitStatus>,
}

/// How long a process may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of a log that are shown when its process ends by itself.
const LAST_LINES: usize = 5;

pub async fn run(args: StartArgs) -> Result<(), Failure> {
    if args.brokers == 0 || args.brokers > 100 {
        return Err(Failure::Usage("a cluster has 1 to 100 brokers".to_owned()));
    }
    if args.port > u16::MAX - args.brokers as u16 {
        let what = format!(
            "there are no {} ports from {} on\nhint: --port 0 takes any free ones",
            args.brokers, args.port
        );
        return Err(Failure::Usage(what));
    }
    let system = |error: std::io::Error| Failure::Failed(format!("cannot watch signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    // The terminal is closed.
    let mut hangup = signal(SignalKind::hangup()).map_err(system)?;
    let (tell, mut ended) = unbounded_channel();
    let mut members = Vec::new();
    let started = tokio::select! {
        started = start_all(&args, &tell, &mut members) => started,
        _ = interrupt.recv() => Err(Failure::Failed("interrupted".to_owned())),
        _ = terminate.recv() => Err(Failure::Failed("terminated".to_owned())),
        _ = hangup.recv() => Err(Failure::Failed("terminated".to_owned())),
    };
    if started.is_ok() {
        // Whether anybody reads it or not, the cluster goes on.
        let _ = print(&members, args.json);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
                Some(end) = ended.recv() => {
                    let _ = report(&mut members, &end, args.json);
                }
            }
        }
        say!("stopping");
    }
    stop_all(members, ended).await;
    started
}

async fn start_all(
    args: &StartArgs,
    tell: &UnboundedSender<Ended>,
    members: &mut Vec<Member>,
) -> Result<(), Failure> {
    let logs = args.data.join("logs");
    fs::create_dir_all(&logs).map_err(|error| {
        Failure::Failed(format!(
            "cannot make {}: {error}\nhint: --data takes another directory",
            logs.display()
        ))
    })?;
    let data = args.data.join("zoo");
    let mut zoo = Command::new(program("mkzoo")?);
    zoo.arg("--data").arg(&data).args(["--listen", &format!("127.0.0.1:{}", args.zoo_port)]);
    members.push(start("mkzoo", zoo, data, logs.join("mkzoo.log"), tell).await?);
    let zoo = members[0].address.clone();
    for id in 1..=args.brokers {
        let name = format!("broker-{id}");
        let data = args.data.join(&name);
        let port = if args.port == 0 { 0 } else { args.port + (id - 1) as u16 };
        let mut broker = Command::new(program("mkbroker")?);
        broker.arg("--data").arg(&data).args(["--listen", &format!("127.0.0.1:{port}")]);
        broker.args(["--zoo", &zoo, "--set", &format!("broker.id={id}")]);
        broker.args(["--set", &format!("default.replication.factor={}", args.brokers.min(3))]);
        let log = logs.join(format!("{name}.log"));
        members.push(start(&name, broker, data, log, tell).await?);
    }
    Ok(())
}

/// Starts a process, and waits until it says where it is ready.
async fn start(
    name: &str,
    mut command: Command,
    data: PathBuf,
    log: PathBuf,
    tell: &UnboundedSender<Ended>,
) -> Result<Member, Failure> {
    let failed = |what: String| Failure::Failed(format!("{name} does not start: {what}"));
    let stderr = File::options().create(true).append(true).open(&log);
    let stderr = stderr.map_err(|error| failed(format!("{}: {error}", log.display())))?;
    // Ctrl-C is for this process alone: it ends the others in their order.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().map_err(|error| {
        let program = command.get_program().display();
        failed(format!("{program}: {error}\nhint: mkctl, mkzoo and mkbroker belong in one folder"))
    })?;
    let pid = child.id();
    let ready = ready_line(&mut child);
    let tell = tell.clone();
    thread::spawn(move || _ = tell.send(Ended { pid, status: child.wait() }));
    let line = match tokio::time::timeout(PATIENCE, ready).await {
        Ok(Ok(line)) => line,
        _ => String::new(),
    };
    match address_in(&line) {
        Some(address) => {
            let (name, address) = (name.to_owned(), address.to_owned());
            Ok(Member { name, address, pid, data, log })
        }
        None => {
            signal_to(pid, Signal::KILL);
            let hint = "--port 0 and --zoo-port 0 take any free ports, --data another directory";
            Err(failed(format!("its log ends with\n{}\nhint: {hint}", last_lines(&log))))
        }
    }
}

fn print(members: &[Member], as_json: bool) -> Result<(), Failure> {
    if as_json {
        for member in members {
            table::print_json(&member.json("ready", None))?;
        }
        return Ok(());
    }
    let rows = members.iter().map(|member| {
        let Member { name, address, pid, data, log } = member;
        let (data, log) = (data.display().to_string(), log.display().to_string());
        vec![name.clone(), address.clone(), pid.to_string(), data, log]
    });
    table::print(&["NAME", "ADDRESS", "PID", "DATA", "LOG"], &rows.collect::<Vec<_>>())?;
    let brokers: Vec<&str> = members[1..].iter().map(|member| member.address.as_str()).collect();
    say!("in another terminal:");
    say!("  export MK_BOOTSTRAP={}", brokers.join(","));
    say!("  echo hello | mkctl produce greetings");
    say!("Ctrl-C ends them all");
    Ok(())
}

/// A process that has ended by itself.
fn report(members: &mut Vec<Member>, end: &Ended, as_json: bool) -> Result<(), Failure> {
    let Some(at) = members.iter().position(|member| member.pid == end.pid) else { return Ok(()) };
    let member = members.remove(at);
    let how = match &end.status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    if as_json {
        return Ok(table::print_json(&member.json("ended", Some(&how)))?);
    }
    let Member { name, pid, log, .. } = &member;
    say!("{name} (pid {pid}) has ended: {how}; its log ends with\n{}", last_lines(log));
    Ok(())
}

impl Member {
    fn json(&self, event: &str, status: Option<&str>) -> Value {
        json!({
            "event": event,
            "name": self.name,
            "address": self.address,
            "pid": self.pid,
            "data": self.data,
            "log": self.log,
            "status": status,
        })
    }
}

/// The brokers first: they give their leaderships away, for which the zookeeper is needed.
async fn stop_all(members: Vec<Member>, mut ended: UnboundedReceiver<Ended>) {
    let (zoos, brokers): (Vec<Member>, Vec<Member>) =
        members.into_iter().partition(|member| member.name == "mkzoo");
    for group in [brokers, zoos] {
        let mut pids: Vec<u32> = group.iter().map(|member| member.pid).collect();
        pids.iter().for_each(|pid| signal_to(*pid, Signal::TERM));
        let all_ended = async {
            while !pids.is_empty()
                && let Some(end) = ended.recv().await
            {
                pids.retain(|pid| *pid != end.pid);
            }
        };
        if tokio::time::timeout(PATIENCE, all_ended).await.is_err() {
            for member in &group {
                say!("{} did not end in {PATIENCE:?} and is killed", member.name);
                signal_to(member.pid, Signal::KILL);
            }
        }
    }
}

/// One that has ended does not mind.
fn signal_to(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

fn last_lines(log: &Path) -> String {
    const MOST: u64 = 4096;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(String::from_utf8_lossy(&end).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("{}: {error}", log.display()));
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
