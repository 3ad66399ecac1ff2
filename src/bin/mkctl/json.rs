//! Records as lines of JSON, without loss: what is not UTF-8 is base64 under a name of its own.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mk::client::ProducerRecord;
use mk_storage::batch::Record;
use serde::{Deserialize, Serialize};

/// A record as a line is printed. Of each pair of fields one is there; null is no value.
#[derive(Debug, Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: i64,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    name: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Prints a record as a line.
pub fn write(out: &mut impl Write, topic: &str, partition: u32, record: &Record) -> io::Result<()> {
    let (key, key_base64) = text_or_base64(&record.key);
    let (value, value_base64) = text_or_base64(&record.value);
    let headers = record.headers.iter().map(|header| {
        let (value, value_base64) = text_or_base64(&header.value);
        let name = header.name_text().into_owned();
        HeaderLine { name, value: value.map(str::to_owned), value_base64 }
    });
    let line = Line {
        topic,
        partition,
        offset: record.offset.0,
        timestamp: record.timestamp.0,
        key,
        key_base64,
        value,
        value_base64,
        headers: headers.collect(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Reads a line. Topic, partition and offset say where the record was, not where it goes.
pub fn read(line: &[u8], topic: &str) -> Result<ProducerRecord, String> {
    let line: OwnedLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let headers = line.headers.into_iter().map(|header| {
        let value = bytes_of(header.value, header.value_base64)?;
        Ok((header.name, value))
    });
    Ok(ProducerRecord {
        topic: topic.into(),
        partition: None,
        key: bytes_of(line.key, line.key_base64)?,
        value: bytes_of(line.value, line.value_base64)?,
        headers: headers.collect::<Result<_, String>>()?,
        timestamp_ms: line.timestamp,
    })
}

fn text_or_base64(bytes: &Option<Bytes>) -> (Option<&str>, Option<String>) {
    let Some(bytes) = bytes else { return (None, None) };
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn bytes_of(text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err("a text and base64 of the same".to_owned()),
        (text, None) => Ok(text.map(Bytes::from)),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64).map_err(|error| format!("base64: {error}"))?;
            Ok(Some(bytes.into()))
        }
    }
}

/// A record as a line is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "where a record was is accepted, and not used")]
struct OwnedLine {
    topic: Option<String>,
    partition: Option<u32>,
    offset: Option<u64>,
    timestamp: Option<i64>,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<HeaderLine>,
}

#[cfg(test)]
mod tests {
    use mk_storage::batch::HeaderField;
    use mk_storage::{Offset, Timestamp};

    use super::*;

    #[test]
    fn records_survive_json() {
        let bytes = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
        let samples = [None, bytes(b""), bytes(b"text \"quoted\" \n \xc3\xa9"), bytes(b"\xff\x00")];
        for key in &samples {
            for value in &samples {
                let header = HeaderField { name: "h".into(), value: value.clone() };
                let record = Record {
                    offset: Offset(3),
                    timestamp: Timestamp(99),
                    key: key.clone(),
                    value: value.clone(),
                    headers: vec![header.clone(), header],
                };
                let mut line = Vec::new();
                write(&mut line, "t", 1, &record).unwrap();
                assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                let read = read(&line, "u").unwrap();
                assert_eq!((&read.key, &read.value, read.timestamp_ms), (key, value, Some(99)));
                let name = "h".to_owned();
                assert_eq!(read.headers, [(name.clone(), value.clone()), (name, value.clone())]);
            }
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for line in ["", "7", "{\"valeu\": 1}", "{\"value\": 1}", "{\"value_base64\": \"%\"}"] {
            assert!(read(line.as_bytes(), "t").is_err(), "{line}");
        }
        assert_eq!(read(b"{}", "t").unwrap().value, None);
    }
}
