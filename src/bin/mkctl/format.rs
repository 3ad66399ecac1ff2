//! How a record is printed.

use std::io::{self, Write};

use mk::client::FetchedBatches;
use mk_storage::batch::Record;

use crate::json;

/// How records are printed.
#[derive(Clone, Debug, clap::Args)]
pub struct OutputArgs {
    /// %t topic, %p partition, %o offset, %k key, %v value, %T timestamp in ms, %h headers, %s size
    /// of the value, %% %; \n \t \\ \xNN. Nothing is put between records. Otherwise: the value and
    /// a newline.
    #[arg(short, long, conflicts_with = "json")]
    pub format: Option<String>,
    /// A JSON object a line; what is not UTF-8 as base64.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// How records are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Json,
    /// These, one behind the other.
    Parts(Vec<Part>),
}

/// A part of what is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Timestamp,
    Headers,
    Size,
}

impl Format {
    /// The format that the flags ask for.
    pub fn of(args: &OutputArgs) -> Result<Format, String> {
        match (&args.format, args.json) {
            (_, true) => Ok(Format::Json),
            (Some(text), _) => Format::parse(text),
            (None, false) => Ok(Format::lines()),
        }
    }

    /// The value and a newline.
    pub fn lines() -> Format {
        Format::Parts(vec![Part::Value, Part::Text(vec![b'\n'])])
    }

    fn parse(text: &str) -> Result<Format, String> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                '%' => directive(chars.next())?,
                '\\' => Part::Text(escape(&mut chars)?),
                c => Part::Text(c.to_string().into_bytes()),
            };
            match part {
                Part::Text(bytes) => plain.extend(bytes),
                part => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                }
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Format::Parts(parts))
    }

    /// Prints a record.
    pub fn print(
        &self,
        out: &mut impl Write,
        from: &FetchedBatches,
        record: &Record,
    ) -> io::Result<()> {
        match self {
            Format::Json => json::write(out, &from.topic, from.partition, record),
            Format::Parts(parts) => {
                parts.iter().try_for_each(|part| print_part(out, part, from, record))
            }
        }
    }
}

fn print_part(
    out: &mut impl Write,
    part: &Part,
    from: &FetchedBatches,
    record: &Record,
) -> io::Result<()> {
    match part {
        Part::Text(bytes) => out.write_all(bytes),
        Part::Topic => out.write_all(from.topic.as_bytes()),
        Part::Partition => write!(out, "{}", from.partition),
        Part::Offset => write!(out, "{}", record.offset),
        Part::Key => out.write_all(record.key.as_deref().unwrap_or_default()),
        Part::Value => out.write_all(record.value.as_deref().unwrap_or_default()),
        Part::Timestamp => write!(out, "{}", record.timestamp.0),
        Part::Size => write!(out, "{}", record.value.as_ref().map_or(0, |value| value.len())),
        Part::Headers => {
            for (index, header) in record.headers.iter().enumerate() {
                out.write_all(if index == 0 { b"" } else { b"," })?;
                out.write_all(&header.name)?;
                out.write_all(b"=")?;
                out.write_all(header.value.as_deref().unwrap_or_default())?;
            }
            Ok(())
        }
    }
}

fn directive(letter: Option<char>) -> Result<Part, String> {
    Ok(match letter {
        Some('t') => Part::Topic,
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('k') => Part::Key,
        Some('v') => Part::Value,
        Some('T') => Part::Timestamp,
        Some('h') => Part::Headers,
        Some('s') => Part::Size,
        Some('%') => Part::Text(vec![b'%']),
        Some(other) => {
            return Err(format!("%{other} is not known; there are %t %p %o %k %v %T %h %s %%"));
        }
        None => return Err("a % at the end".to_owned()),
    })
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<Vec<u8>, String> {
    Ok(vec![match chars.next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?
        }
        Some(other) => {
            return Err(format!("\\{other} is not known; there are \\n \\t \\r \\0 \\\\ \\xNN"));
        }
        None => return Err("a \\ at the end".to_owned()),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read() {
        let parts = |text| match Format::parse(text) {
            Ok(Format::Parts(parts)) => parts,
            other => panic!("{other:?}"),
        };
        let text = |text: &str| Part::Text(text.as_bytes().to_vec());
        assert_eq!(
            parts("%t[%p]@%o: %v\\n"),
            [
                Part::Topic,
                text("["),
                Part::Partition,
                text("]@"),
                Part::Offset,
                text(": "),
                Part::Value,
                text("\n")
            ]
        );
        assert_eq!(parts("100%%\\x41\\\\"), [text("100%A\\")]);
        for wrong in ["%", "%z", "\\", "\\q", "\\xZZ"] {
            assert!(Format::parse(wrong).is_err(), "{wrong}");
        }
    }
}
