//! mkctl as a Unix filter, and mkbroker's flags: what they print, and how they end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Broker, data_dir, with_input};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn exit_codes_tell_what_happened() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let ends = |arguments: &[&str], input: &str| {
        let output = with_input(broker.ctl(arguments), input.as_bytes());
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(ends(&["produce", "t"], "x\n").0, 0);
    // 1: one of many failed, and the others did not suffer.
    let (code, _, error) = ends(&["produce", "t", "-K", ":"], "a:1\nnone\nb:2\n");
    assert_eq!(code, 1);
    assert!(error.contains("stdin, line 2: it has no delimiter"), "{error}");
    assert!(error.contains("2 records"), "{error}");
    assert_eq!(ends(&["cat", "t"], "").1, "x\n1\n2\n");
    // Nothing that cannot be undone is done unasked.
    for destructive in [&["topic", "delete", "t"][..], &["topic", "trim", "t", "--before", "end"]] {
        let (code, _, error) = ends(destructive, "");
        assert!(code == 2 && error.contains("needs -y"), "{error}");
        let (code, _, error) = ends(&[destructive, &["--dry-run"]].concat(), "");
        assert!(code == 0 && error.starts_with("mkctl: would "), "{error}");
        assert!(error.contains("3 records") || error.contains("3 (about"), "{error}");
    }
    assert_eq!(ends(&["cat", "t"], "").1, "x\n1\n2\n");
    let (code, _, error) = ends(&["topic", "delete", "-y", "t", "missing"], "");
    assert_eq!(code, 1);
    assert!(error.contains("t: deleted") && error.contains("'missing'"), "{error}");
    let (code, _, error) = ends(&["produce", "t", "/nowhere/file"], "");
    assert!(code == 1 && error.contains("/nowhere/file"), "{error}");
    // 2: usage.
    assert_eq!(ends(&["produce"], "").0, 2);
    assert_eq!(ends(&["consume", "t", "-f", "%z"], "").0, 2);
    assert_eq!(ends(&["consume", "t", "-o", "yesterday"], "").0, 2);
    assert_eq!(ends(&["grep", "(", "t"], "").0, 2);
    // 3: nobody there; with a word on what to do.
    let mut nobody = Command::new(env!("CARGO_BIN_EXE_mkctl"));
    nobody.args(["-b", "127.0.0.1:1", "--timeout", "200ms", "topic", "list"]);
    let output = nobody.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("is a broker running there?"), "{output:?}");
}

#[test]
fn head_ends_quietly() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let lines: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    broker.run_with_input(&["produce", "t"], lines.as_bytes());
    let mut child = broker
        .ctl(&["consume", "t", "-o", "start"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert_eq!(first, "0\n");
    drop(stdout);
    let status = child.wait().unwrap();
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(error, "");
}

/// Where nobody read stderr any more, mkctl panicked in the middle of its work, and ended with 101; so it did
/// where nobody read the end of what it printed line by line.
#[test]
fn words_that_nobody_reads_are_lost_and_nothing_else() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let unread = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let unheard = |arguments: &[&str], input: &[u8]| {
        let mut command = broker.ctl(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(unread());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait().unwrap().code()
    };
    assert_eq!(unheard(&["topic", "create", "t", "-p", "2"], b""), Some(0));
    assert_eq!(unheard(&["produce", "t"], b"1\n2\n"), Some(0));
    assert_eq!(unheard(&["produce", "t", "-K", ":"], b"1\na:3\n"), Some(1));
    assert_eq!(broker.run(&["cat", "t"]).lines().count(), 3);
    assert_eq!(unheard(&["topic", "delete", "missing", "-y"], b""), Some(1));
    assert_eq!(unheard(&["topic", "delete", "t"], b""), Some(2));
    assert_eq!(unheard(&["topic", "delete"], b""), Some(2));
    assert_eq!(unheard(&["consume", "t", "-o", "start", "-e"], b""), Some(0));
    for arguments in [
        &["topic", "describe", "t"][..],
        &["cluster", "events"],
        &["cluster", "health"],
        &["config", "set", "t", "flush=os"],
        &["verify", "produce", "t", "-n", "1"],
    ] {
        let mut command = broker.ctl(arguments);
        let output = command.stdout(unread()).output().unwrap();
        assert!(output.status.success(), "{arguments:?} {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"), "{arguments:?}");
    }
}

#[test]
fn records_keep_keys_headers_times_and_bytes_through_json() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run_with_input(
        &["produce", "a", "-k", "key", "-H", "h=1", "-H", "h=2", "--whole"],
        b"\xff\xfe raw\n",
    );
    broker.run_with_input(&["produce", "a", "--json"], b"{\"key\":null,\"value\":null}\n");
    broker.run_with_input(&["produce", "a"], "zwölf\n\n".as_bytes());
    let first = broker.run(&["consume", "a", "-o", "start", "-e", "-J"]);
    broker.run_with_input(&["produce", "b", "--json"], first.as_bytes());
    let second = broker.run(&["consume", "b", "-o", "start", "-e", "-J"]);
    assert_eq!(first.replace("\"topic\":\"a\"", "\"topic\":\"b\""), second);
    let lines: Vec<serde_json::Value> =
        first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["value_base64"], "//4gcmF3Cg==");
    assert_eq!(lines[0]["headers"][1]["value"], "2");
    assert!(lines[1]["value"].is_null() && lines[1].get("value_base64").is_none());
    assert_eq!((&lines[2]["value"], &lines[3]["value"]), (&"zwölf".into(), &"".into()));
    let format = "%t/%p/%o/%k/%h/%s\\x21";
    let printed = broker.run(&["consume", "a", "-o", "0", "-n", "1", "-f", format]);
    assert_eq!(printed, "a/0/0/key/h=1,h=2/7!");
}

#[test]
fn places_in_a_log() {
    let (_root, data) = data_dir();
    // Its records are of 1970.
    let flags = ["--set", "log.retention.ms=-1"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    for n in 0..5 {
        let line = format!("{{\"value\":\"v{n}\",\"timestamp\":{}}}\n", 1000 * (n + 1));
        broker.run_with_input(&["produce", "t", "--json"], line.as_bytes());
    }
    let from = |place: &str| broker.run(&["consume", "t", "-o", place, "-e"]).replace('\n', " ");
    assert_eq!(from("start"), "v0 v1 v2 v3 v4 ");
    assert_eq!(from("3"), "v3 v4 ");
    assert_eq!(from("-2"), "v3 v4 ");
    assert_eq!(from("@2500"), "v2 v3 v4 ");
    assert_eq!(from("@1970-01-01T00:00:05Z"), "v4 ");
    assert_eq!(from("@-1h"), "");
    assert_eq!(from("end"), "");
    assert_eq!(broker.run(&["offsets", "t"]), "0\t0\t5\n");
    assert_eq!(broker.run(&["offsets", "t", "--at", "3000"]), "0\t2\n");
    assert_eq!(broker.run(&["offsets", "t", "--at", "9000"]), "0\t-\n");
    assert_eq!(broker.run(&["tail", "t", "-n", "1"]), "v4\n");
    assert_eq!(broker.run(&["grep", "[24]", "t"]), "v2\nv4\n");
    let none = with_input(broker.ctl(&["grep", "nothing", "t"]), b"");
    assert_eq!(none.status.code(), Some(1));
    // What is trimmed is gone, also after a restart; who asks for it begins with what is left.
    broker.run(&["topic", "trim", "-y", "t", "--before", "@2500"]);
    assert_eq!(from("start"), "v2 v3 v4 ");
    assert_eq!(from("0"), "v2 v3 v4 ");
    broker.stop();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    assert_eq!(broker.run(&["offsets", "t"]), "0\t2\t5\n");
}

#[test]
fn topics_come_change_grow_and_go() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "t", "-p", "2", "-c", "segment.bytes=1MiB"]);
    let again = with_input(broker.ctl(&["topic", "create", "t"]), b"");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("there already"), "{again:?}");
    broker.run(&["topic", "create", "t", "--if-not-exists"]);
    broker.run(&["topic", "create", "dry", "--dry-run"]);
    assert_eq!(broker.run(&["topic", "list"]), "t\t2\t0\t0\n");
    let wrong = with_input(broker.ctl(&["topic", "create", "u", "-c", "segment.byte=1"]), b"");
    assert!(text(&wrong.stderr).contains("did you mean 'segment.bytes'?"), "{wrong:?}");
    let many = with_input(broker.ctl(&["topic", "create", "u", "-r", "3"]), b"");
    assert!(text(&many.stderr).contains("INVALID_REPLICATION_FACTOR"), "{many:?}");

    let would = broker.run(&["config", "set", "t", "flush=os", "--dry-run"]);
    assert_eq!(would, "flush=os\nsegment.bytes=1MiB\n");
    broker.run(&["config", "set", "t", "flush=os"]);
    let altered = broker.run(&["config", "unset", "t", "segment.bytes"]);
    assert_eq!(altered, "flush=os\n");
    let shown = broker.run(&["config", "describe", "t"]);
    assert!(shown.contains("flush\tos\ttopic\n"), "{shown}");
    assert!(shown.contains("segment.bytes\t1GiB\tdefault\n"), "{shown}");
    let one: Vec<serde_json::Value> = broker
        .run(&["config", "describe", "t", "-J"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(one.contains(&serde_json::json!({
        "topic": "t", "name": "flush", "value": "os", "source": "topic"
    })));
    let summary = broker.run_with_input(&["produce", "t", "-p", "1"], b"x\n").stderr;
    assert!(text(&summary).contains("durability: memory"), "{}", text(&summary));
    let before = broker.run(&["topic", "describe", "t", "-J"]);
    let described: serde_json::Value = serde_json::from_str(&before).unwrap();
    assert_eq!(described["settings"]["flush"]["source"], "topic");
    assert_eq!(described["settings"]["segment.bytes"]["source"], "default");
    assert_eq!(described["partitions"][1]["end"], 1);
    let grow = |flag: &[&str]| {
        let output =
            with_input(broker.ctl(&[&["topic", "add-partitions", "t", "3"], flag].concat()), b"");
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (code, error) = grow(&[]);
    assert!(code == 2 && error.contains("needs -y"), "{error}");
    let (code, error) = grow(&["--dry-run"]);
    assert!(code == 0 && error.contains("would let t grow from 2 to 3 partitions"), "{error}");
    assert_eq!(broker.run(&["offsets", "t"]).lines().count(), 2);
    assert_eq!(grow(&["-y"]), (0, "t: 3 partitions\n".to_owned()));
    let fewer = with_input(broker.ctl(&["topic", "add-partitions", "t", "1"]), b"");
    assert_eq!(fewer.status.code(), Some(1));
    broker.stop();

    let broker = Broker::start(&data);
    let after = broker.run(&["topic", "describe", "t", "-J"]);
    let described: serde_json::Value = serde_json::from_str(&after).unwrap();
    assert_eq!(described["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(described["settings"]["flush"]["value"], "os");
    // The longest name there is; in the trash it was once longer than a file system takes.
    let longest = "x".repeat(249);
    broker.run(&["topic", "create", &longest]);
    broker.run(&["topic", "delete", "-y", &longest]);
    // A follower of a topic that is deleted is told so, and does not make it anew.
    let mut command = broker.ctl(&["consume", "t", "-o", "start"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut stdout = BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "x\n");
    broker.run(&["topic", "delete", "-y", "t"]);
    assert_eq!(follower.wait().unwrap().code(), Some(1));
    assert_eq!(broker.run(&["topic", "list"]), "");
    // The same name is another topic.
    broker.run_with_input(&["produce", "t"], b"new\n");
    assert_eq!(broker.run(&["cat", "t"]), "new\n");
    let described: serde_json::Value =
        serde_json::from_str(&broker.run(&["topic", "describe", "t", "-J"])).unwrap();
    let old: serde_json::Value = serde_json::from_str(&after).unwrap();
    assert_ne!(described["id"], old["id"]);
}

/// `--dry-run` looked at nothing: it said of topics that are not there, and of offsets that no log has, that
/// they would go.
#[test]
fn a_dry_run_tells_what_would_fail() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "t", "-p", "2"]);
    broker.run_with_input(&["produce", "t", "-p", "1"], b"1\n2\n3\n");
    broker.run(&["consume", "t", "-g", "g", "-e"]);
    let ends = |arguments: &[&str]| {
        let output = with_input(broker.ctl(arguments), b"");
        (output.status.code().unwrap(), text(&output.stderr))
    };
    for (arguments, told) in [
        (&["topic", "delete", "missing"][..], "'missing'"),
        (&["topic", "delete", "__consumer_offsets"], "is the brokers' own"),
        (&["topic", "trim", "missing", "--before", "end"], "'missing'"),
        (&["topic", "trim", "t", "-p", "2", "--before", "end"], "no partition 2"),
        (&["topic", "trim", "t", "-p", "1", "--before", "4"], "beyond what is committed, 3"),
        (&["topic", "trim", "__consumer_offsets", "--before", "end"], "is the brokers' own"),
        (&["topic", "add-partitions", "t", "2"], "has 2 partitions"),
        (&["elect", "--unclean", "t:2"], "there is no such partition"),
        (&["config", "set", "t", "retention=1"], "retention.ms"),
    ] {
        let (code, dry) = ends(&[arguments, &["--dry-run"]].concat());
        assert!(code == 1 && dry.contains(told), "{arguments:?} {code} {dry}");
        let real = ends(&[arguments, &["-y"]].concat());
        assert_eq!(real.0, 1, "{arguments:?} {}", real.1);
    }
    let (code, would) = ends(&["topic", "delete", "t", "missing", "--dry-run"]);
    assert!(code == 1 && would.contains("would delete t (2 partitions, 3 records, "), "{would}");
    let (code, would) = ends(&["topic", "trim", "t", "--before", "2", "-p", "1", "--dry-run"]);
    assert!(code == 0 && would.contains("of partition 1, all below 2"), "{would}");
    assert_eq!(ends(&["elect", "--unclean", "t", "--dry-run"]).0, 0);
    assert_eq!(broker.run(&["cat", "t"]), "1\n2\n3\n");
}

/// A setting by which retention took records away at once was set without a question.
#[test]
fn a_setting_that_costs_records_is_asked_for() {
    let (_root, data) = data_dir();
    let flags = ["--set", "log.retention.ms=-1"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    broker.run(&["topic", "create", "t", "-c", "segment.ms=1"]);
    for n in 0..3 {
        let line = format!("{{\"value\":\"v{n}\",\"timestamp\":{}}}\n", 1000 * (n + 1));
        broker.run_with_input(&["produce", "t", "--json"], line.as_bytes());
    }
    let set = |flags: &[&str]| {
        let command = [&["config", "set", "t", "retention.ms=1h"], flags].concat();
        let output = with_input(broker.ctl(&command), b"");
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (code, told) = set(&[]);
    assert!(code == 2 && told.contains("needs -y") && told.contains("segments"), "{told}");
    assert_eq!(broker.run(&["cat", "t"]).lines().count(), 3);
    assert_eq!(set(&["--dry-run"]).0, 0);
    assert!(!broker.run(&["config", "describe", "t"]).contains("1h\ttopic"));
    assert_eq!(set(&["-y"]).0, 0);
    // What takes nothing away is set unasked.
    broker.run(&["config", "unset", "t", "retention.ms"]);
    broker.run(&["config", "set", "t", "flush=os"]);
}

/// Somebody types: each line goes on its way, though the input has not ended.
#[test]
fn lines_are_sent_as_they_come() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut producer = broker.ctl(&["produce", "t"]);
    producer.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut producer = producer.spawn().unwrap();
    let mut stdin = producer.stdin.take().unwrap();
    for n in 0..3 {
        writeln!(stdin, "line {n}").unwrap();
        let start = Instant::now();
        let offset = n.to_string();
        let seen = broker.run(&["consume", "t", "-o", &offset, "-n", "1"]);
        assert_eq!(seen, format!("line {n}\n"));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    drop(stdin);
    assert!(producer.wait().unwrap().success());
}

#[test]
fn mkbroker_refuses_what_it_does_not_know() {
    let (_root, data) = data_dir();
    let start = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkbroker"));
        command.arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]).args(flags);
        command.env("MKBROKER_NUM_PARTITIONS", "1");
        let output = command.output().unwrap();
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (code, error) = start(&["--set", "num.partition=3"]);
    assert_eq!(code, 2);
    assert!(error.contains("did you mean 'num.partitions'?"), "{error}");
    let (code, error) = start(&["--set", "num.partitions=none"]);
    assert!(code == 2 && error.contains("num.partitions = 'none'"), "{error}");
    assert_eq!(start(&["--config", "/nowhere.toml"]).0, 2);
    assert_eq!(start(&["--set", "num.partitions"]).0, 2);
    let (code, error) = start(&["--listen", "0.0.0.0:0"]);
    assert_ne!(code, 0);
    assert!(error.contains("listen"), "{error}");
    let everywhere = Command::new(env!("CARGO_BIN_EXE_mkbroker"))
        .arg("--data")
        .arg(&data)
        .args(["--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    assert_eq!(everywhere.status.code(), Some(1));
    assert!(text(&everywhere.stderr).contains("advertised.listeners"), "{everywhere:?}");
}

#[test]
fn a_benchmark_tells_what_it_measured() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let measured = |arguments: &[&str]| -> serde_json::Value {
        let said = broker.run(&[&["bench"], arguments, &["-J"]].concat());
        serde_json::from_str(&said).unwrap()
    };
    let many = ["-n", "5000", "-s", "100", "--producers", "2", "-p", "3"];
    let produced = measured(&[&["produce", "load"], &many[..]].concat());
    assert_eq!((&produced["partitions"], &produced["durability"]), (&3.into(), &"disk".into()));
    assert_eq!(produced["throughput"]["bytes"], 500_000);
    assert!(produced["latency_us"]["p50"].as_u64() <= produced["latency_us"]["p99"].as_u64());

    // What is due and waits counts: a fifth of a second at this rate.
    let paced = measured(&["produce", "load", "-n", "200", "--rate", "1000", "--acks", "1"]);
    assert!(paced["throughput"]["seconds"].as_f64().unwrap() > 0.19, "{paced}");

    let consumed = measured(&["consume", "load", "--consumers", "2"]);
    assert_eq!(consumed["throughput"]["records"], 5200);
    assert_eq!(consumed["throughput"]["bytes"], 500_000 + 200 * 1024);
    let some = measured(&["consume", "load", "-n", "10"]);
    assert!((10..5200).contains(&some["throughput"]["records"].as_u64().unwrap()), "{some}");

    let both = measured(&["e2e", "load", "-n", "500", "--rate", "5000", "--acks", "1"]);
    assert_eq!(both["throughput"]["records"], 500);
    assert!(both["latency_us"]["p50"].as_u64().unwrap() < 1_000_000, "{both}");

    let nothing = broker.ctl(&["bench", "consume", "nothing"]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(1));
    assert_eq!(broker.run(&["topic", "list"]).lines().count(), 1, "consuming creates nothing");
}

/// As bash asks when somebody presses tab.
#[test]
fn a_shell_completes_commands_and_names_of_topics() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "greetings", "groans", "orders"]);
    let complete_with = |variables: &str, line: &str| -> Option<Vec<String>> {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "export {variables} PATH={}:$PATH; source <(mkctl completion bash); COMP_WORDS=({line}); COMP_CWORD={}; \
             COMP_TYPE=9; _clap_complete_mkctl mkctl '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            std::path::Path::new(env!("CARGO_BIN_EXE_mkctl")).parent().unwrap().display(),
            words.len() - 1,
            words[words.len() - 1],
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &script]);
        let output = match bash.output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            output => output.unwrap(),
        };
        assert!(output.status.success(), "{}", text(&output.stderr));
        Some(text(&output.stdout).split_whitespace().map(str::to_owned).collect())
    };
    let here = format!("MK_BOOTSTRAP={}", broker.address());
    let complete = |line: &str| complete_with(&here, line);
    let Some(commands) = complete("mkctl prod") else {
        println!("skipped: there is no bash");
        return;
    };
    assert_eq!(commands, ["produce"]);
    assert_eq!(complete("mkctl consume gr").unwrap(), ["greetings", "groans"]);
    assert_eq!(complete("mkctl topic describe ord").unwrap(), ["orders"]);
    broker.run(&["topic", "add-partitions", "-y", "orders", "3"]);
    assert_eq!(complete("mkctl consume orders -p ").unwrap(), ["0", "1", "2"]);
    assert_eq!(complete("mkctl elect gr").unwrap(), ["greetings", "groans"]);
    assert_eq!(
        complete("mkctl elect ord").unwrap(),
        ["orders", "orders:0", "orders:1", "orders:2"]
    );
    assert_eq!(complete("mkctl config set orders segment.b").unwrap(), ["segment.bytes="]);
    assert_eq!(complete("mkctl topic create new -c flush").unwrap(), ["flush="]);
    assert_eq!(complete("mkctl config unset orders segment.b").unwrap(), ["segment.bytes"]);
    assert_eq!(complete("mkctl produce orders -z z").unwrap(), ["zstd"]);
    // The cluster that is asked is the one that the line names.
    let profiles = data.join("profiles.json");
    let named =
        format!("{{\"profiles\":{{\"here\":{{\"bootstrap_server\":\"{}\"}}}}}}", broker.address());
    std::fs::write(&profiles, named).unwrap();
    let elsewhere = format!("MK_BOOTSTRAP=127.0.0.1:1 MK_PROFILES={}", profiles.display());
    let of_profile = complete_with(&elsewhere, "mkctl --profile here consume gr").unwrap();
    assert_eq!(of_profile, ["greetings", "groans"]);
    assert_eq!(complete_with(&elsewhere, "mkctl profile use h").unwrap(), ["here"]);
    assert_eq!(complete_with(&elsewhere, "mkctl --profile h").unwrap(), ["here"]);
    // Nobody answers at that address, and nobody waits for it.
    let begun = Instant::now();
    assert!(complete("mkctl -b 127.0.0.1:1 cat gr").unwrap().is_empty());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Pages had no examples: what stands at the head of a help was not taken over.
#[test]
fn there_is_a_page_for_each_command() {
    let (root, _) = data_dir();
    let pages = root.path().join("deep/man");
    let man = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        command.arg("man").arg(&pages).output().unwrap()
    };
    assert!(man().status.success());
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    let create = page("mkctl-topic-create.1");
    assert!(create.contains(".TH") && create.contains("replication"), "{create}");
    assert!(create.contains("cleanup.policy=compact"), "{create}");
    assert!(page("mkctl.1").contains("mkctl\\-consume"), "{}", page("mkctl.1"));
    // Again they are written over; where there can be none, it says so.
    assert!(man().status.success());
    std::fs::remove_dir_all(&pages).unwrap();
    std::fs::write(&pages, "a file").unwrap();
    let refused = man();
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("cannot write to"), "{said}");
}

#[test]
fn numbered_records_show_what_is_missing_and_what_is_there_twice() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "t", "-p", "3"]);
    let run = broker.run(&["verify", "produce", "t", "-n", "1000", "-q"]);
    let run = run.trim();
    let look = |arguments: &[&str]| {
        let output =
            broker.ctl(&[&["verify", "consume", "t"], arguments].concat()).output().unwrap();
        (output.status.code().unwrap(), text(&output.stdout))
    };
    let sound = format!("run {run}: 1000 numbers, 0 missing, 0 twice, 0 out of order\n");
    assert_eq!(look(&[]), (0, sound.clone()));
    broker
        .run_with_input(&["produce", "t", "-p", "0"], format!("{run} 3/1000\nhello\n").as_bytes());
    let (code, said) = look(&["--run", run]);
    assert_eq!((code, said), (1, sound.replace("0 twice", "1 twice")));
    broker.run_with_input(&["produce", "t", "-p", "0"], format!("{run} 1004/1006\n").as_bytes());
    let (code, said) = look(&["-J"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["missing"]), (1, &serde_json::json!([[1000, 1003], [1005, 1005]])));
    assert_eq!(look(&["--run", "0123456789ab"]), (1, String::new()));
}

#[test]
fn a_broker_that_is_killed_again_and_again_has_what_it_acknowledged() {
    let (root, _) = data_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
    command.args(["durability-test", "-n", "2", "-J", "--dir"]).arg(root.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["lost"], told["rounds"].as_array().unwrap().len()), (&0.into(), 2));
    assert!(told["acknowledged"].as_u64().unwrap() > 0, "{told}");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "it leaves nothing");
}

/// `--profile` was not heard where MK_BOOTSTRAP was set: the command went to another cluster than the one that
/// was named, without a word.
#[test]
fn what_is_named_on_the_line_counts_before_the_environment() {
    let (root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "t"]);
    let file = root.path().join("profiles.json");
    let nowhere = "127.0.0.1:1";
    let ctl = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkctl"));
        command.env("MK_PROFILES", &file).env_remove("MK_BOOTSTRAP").env_remove("MK_PROFILE");
        command.envs(variables.iter().copied()).args(["--timeout", "100ms"]).args(arguments);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), text(&output.stderr))
    };
    for (name, address) in [("here", broker.address()), ("there", "127.0.0.1:2")] {
        assert_eq!(ctl(&[], &["profile", "set", name, address]).0, 0);
    }
    assert_eq!(ctl(&[], &["profile", "use", "there"]).0, 0);
    let (bootstrap, profile) = ("MK_BOOTSTRAP", "MK_PROFILE");
    let list = ["topic", "list"];
    let here = |variables: &[(&str, &str)], flags: &[&str]| {
        let (code, error) = ctl(variables, &[flags, &list[..]].concat());
        assert_eq!(code, 0, "{variables:?} {flags:?}: {error}");
    };
    here(&[(bootstrap, nowhere)], &["-b", broker.address()]);
    here(&[(bootstrap, nowhere)], &["--profile", "here"]);
    here(&[(profile, "there")], &["--profile", "here"]);
    here(&[(bootstrap, broker.address()), (profile, "there")], &[]);
    here(&[(profile, "here")], &[]);
    here(&[(bootstrap, ""), (profile, "here")], &[]);
    here(&[(bootstrap, nowhere)], &["--profile", "there", "-b", broker.address()]);
    let (code, error) = ctl(&[], &list);
    assert!(code == 3 && error.contains("127.0.0.1:2"), "{error}");
}

#[test]
fn a_cluster_has_a_name_that_is_used_where_no_other_is_given() {
    let (root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "t"]);
    let file = root.path().join("settings/profiles.json");
    let ctl = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mkctl"));
        command.args(arguments).env("MK_PROFILES", &file).env_remove("MK_BOOTSTRAP");
        let output = command.env_remove("MK_PROFILE").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(ctl(&["profile", "set", "here", broker.address()]).0, Some(0));
    assert_eq!(ctl(&["profile", "set", "there", "127.0.0.1:1,127.0.0.1:2"]).0, Some(0));
    assert!(ctl(&["--profile", "here", "topic", "list"]).1.starts_with("t\t1\t"));
    assert_eq!(ctl(&["profile", "use", "here"]).0, Some(0));
    assert!(ctl(&["topic", "list"]).1.starts_with("t\t1\t"));
    let listed = format!("here\t{}\t*\nthere\t127.0.0.1:1,127.0.0.1:2\t\n", broker.address());
    assert_eq!(ctl(&["profile", "list"]).1, listed);
    let (code, _, error) = ctl(&["--profile", "nowhere", "topic", "list"]);
    assert!(code == Some(2) && error.contains("mkctl profile set nowhere"), "{error}");
    // What is given on the line counts.
    let (code, _, error) =
        ctl(&["--profile", "here", "-b", "127.0.0.1:1", "--timeout", "100ms", "topic", "list"]);
    assert!(code == Some(3) && error.contains("127.0.0.1:1"), "{error}");
    assert_eq!(ctl(&["profile", "forget", "here"]).0, Some(0));
    assert_eq!(ctl(&["profile", "use", "here"]).0, Some(2));
    assert_eq!(ctl(&["profile", "list"]).1, "there\t127.0.0.1:1,127.0.0.1:2\t\n");
    broker.stop();
}
