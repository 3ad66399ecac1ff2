//! The pages say what the code does. MK_UPDATE_DOCS=1 writes the table of errors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fmt::Write;
use std::path::Path;

use mk_net::codec::decode;
use mk_net::fault::ErrorCode;
use mk_net::frame::{FrameHeader, HEADER_LEN, request};
use mk_net::message::{ApiVersions, Kind};

const HEAD: &str = "| code | name | retry | what to do |\n|---|---|---|---|\n";

fn protocol() -> (std::path::PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let page = std::fs::read_to_string(&path).unwrap();
    (path, page)
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let (path, page) = protocol();
    let mut table = HEAD.to_owned();
    for code in ErrorCode::ALL {
        let retry = if code.is_retriable() { "yes" } else { "" };
        writeln!(table, "| {} | {} | {retry} | {} |", code.0, code.name(), code.hint()).unwrap();
    }
    let start = page.find(HEAD).unwrap();
    let length = page[start..].find("\n\n").unwrap() + 1;
    if std::env::var_os("MK_UPDATE_DOCS").is_some() {
        let page = format!("{}{table}{}", &page[..start], &page[start + length..]);
        std::fs::write(path, page).unwrap();
    } else {
        assert_eq!(page[start..start + length], table);
    }
}

#[test]
fn every_message_has_its_section() {
    let (_, page) = protocol();
    for (kind, _, version) in Kind::ALL {
        assert!(page.contains(&format!("\n### {} {}\n", kind.0, kind.name())), "{kind:?}");
        assert_eq!(*version, 1, "the page says that all versions are 1");
    }
}

#[test]
fn the_example_is_a_frame() {
    let (_, page) = protocol();
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
