//! The pages say what the code does. MK_UPDATE_DOCS=1 writes the tables of errors and of Kafka's requests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fmt::Write;
use std::path::Path;

use mk_net::codec::decode;
use mk_net::envelope::request;
use mk_net::fault::ErrorCode;
use mk_net::frame::{FrameHeader, HEADER_LEN};
use mk_net::kafka::api::Api;
use mk_net::message::{ApiVersions, Kind};
use mk_storage::batch::{CheckedBatch, records};
use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use mk_storage::disk::MappedDisk;
use mk_storage::{Epoch, Offset};

const HEAD: &str = "| code | name | retry | what to do |\n|---|---|---|---|\n";

fn page(name: &str) -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    let page = std::fs::read_to_string(&path).unwrap();
    (path, page)
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let (path, page) = page("protocol.md");
    let mut table = HEAD.to_owned();
    for code in ErrorCode::ALL {
        let retry = if code.is_retriable() { "yes" } else { "" };
        writeln!(table, "| {} | {} | {retry} | {} |", code.0, code.name(), code.hint()).unwrap();
    }
    hold(&path, &page, HEAD, &table);
}

#[test]
fn the_table_of_kafkas_requests_is_that_of_the_code() {
    const HEAD: &str = "| key | request | versions |\n|---|---|---|\n";
    let (path, page) = page("kafka.md");
    let mut table = HEAD.to_owned();
    for Api { key, name, min, max, .. } in Api::ALL {
        let versions = if min == max { min.to_string() } else { format!("{min} to {max}") };
        writeln!(table, "| {} | {name} | {versions} |", key.0).unwrap();
    }
    hold(&path, &page, HEAD, &table);
}

/// Holds the table that begins so to what it is to be, or writes it.
fn hold(path: &Path, page: &str, head: &str, table: &str) {
    let start = page.find(head).unwrap();
    let length = page[start..].find("\n\n").unwrap() + 1;
    if std::env::var_os("MK_UPDATE_DOCS").is_some() {
        let page = format!("{}{table}{}", &page[..start], &page[start + length..]);
        std::fs::write(path, page).unwrap();
    } else {
        assert_eq!(&page[start..start + length], table);
    }
}

#[test]
fn every_message_has_its_section() {
    let (_, page) = page("protocol.md");
    for (kind, oldest, newest) in Kind::ALL {
        let head = format!("\n### {} {}\n", kind.0, kind.name());
        let (_, section) = page.split_once(&head).unwrap_or_else(|| panic!("{kind:?}"));
        let section = section.split("\n### ").next().unwrap();
        let version =
            section.split_once("Version ").and_then(|(_, rest)| rest.split_once(['.', ';']));
        let only = version.map_or(1, |(version, _)| version.parse().unwrap());
        assert_eq!((*oldest, *newest), (only, only), "{kind:?}: so the page says");
    }
}

#[test]
fn the_example_is_a_frame() {
    let (_, page) = page("protocol.md");
    let hex = page.split_once("```hex\n").unwrap().1.split_once("```").unwrap().0;
    let bytes: Vec<u8> =
        hex.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let message = ApiVersions {
        client_software_name: "demo".to_owned(),
        client_software_version: "1".to_owned(),
    };
    assert_eq!(bytes, request(1, &message, 0));
    let header = FrameHeader::parse(bytes.first_chunk().unwrap(), 100).unwrap();
    assert_eq!(header.kind, Kind::API_VERSIONS);
    assert_eq!(decode::<ApiVersions>(&bytes[HEADER_LEN..]), Ok(message));
}

/// The bytes that the page shows as `xxd` does, one entry a block.
fn dumps(page: &str) -> Vec<Vec<u8>> {
    let blocks = page.split("```text\n00000000: ").skip(1);
    let blocks = blocks.map(|block| format!("00000000: {}", block.split("```").next().unwrap()));
    let bytes_of = |line: &str| {
        let bytes = line.split_once(": ").unwrap().1;
        bytes.split(' ').map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<_>>()
    };
    blocks.map(|block| block.lines().flat_map(bytes_of).collect()).collect()
}

#[test]
fn the_batch_and_the_checkpoint_of_the_page_are_what_it_says() {
    let (_, page) = page("format.md");
    let [batch, checkpoint]: [Vec<u8>; 2] = dumps(&page).try_into().unwrap();
    let checked = CheckedBatch::check(&batch, 1000).unwrap();
    assert_eq!(checked.header().base_timestamp.0, 0x18b_cfe5_6800);
    let record = records(&batch.into(), 1000).unwrap().next().unwrap().unwrap();
    assert_eq!(record.timestamp.0, 1_700_000_000_000);
    assert_eq!((record.key.unwrap(), record.value.unwrap()), ("ann".into(), "hello".into()));
    assert_eq!(record.headers[0].value.as_deref(), Some(&b"1"[..]));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CHECKPOINT_FILE), checkpoint).unwrap();
    let disk = MappedDisk::start().unwrap();
    let read = Checkpoint::read(&disk, dir.path()).unwrap().unwrap();
    assert_eq!((read.recovery_point, read.log_start), (Offset(1), Offset(0)));
    assert_eq!(read.epochs, [(Epoch(0), Offset(0))]);
}
