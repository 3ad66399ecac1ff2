//! Values of settings: their types, how people write them, how they are printed.

use mk_storage::batch::TimestampType;

/// Type and range of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of bytes: `4096`, `64KiB`, `1MB`.
    Bytes {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A time: `500ms`, `7d`, or a number of milliseconds.
    Millis {
        /// Least, in milliseconds.
        min: u64,
        /// Most, in milliseconds.
        max: u64,
    },
    /// As [`Kind::Bytes`], or -1: no limit, which is [`NO_LIMIT`].
    BytesOrNone {
        /// Most.
        max: u64,
    },
    /// As [`Kind::Millis`], or -1: no limit, which is [`NO_LIMIT`].
    MillisOrNone {
        /// Most, in milliseconds.
        max: u64,
    },
    /// A plain number from 1 on, or -1: no limit, which is [`NO_LIMIT`].
    CountOrNone {
        /// Most.
        max: u64,
    },
    /// A plain number.
    Count {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// `true` or `false`.
    Bool,
    /// `ack`, `os` or `interval:<time>`.
    Flush,
    /// `delete`, `compact` or both.
    Cleanup,
    /// `CreateTime` or `LogAppendTime`.
    TimestampType,
    /// A part of a whole: 0 to 1.
    Ratio,
    /// Any text.
    Text,
}

/// The number of a setting that is not limited, written -1.
pub const NO_LIMIT: u64 = u64::MAX;

/// A value that has been checked against its [`Kind`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of bytes, milliseconds or a count.
    Number(u64),
    /// Of a ratio.
    Ratio(f64),
    /// Of a switch.
    Bool(bool),
    /// Of everything else.
    Text(String),
}

impl Value {
    /// The value as a program reads it: bytes and milliseconds are plain numbers.
    pub fn plain(&self) -> String {
        match self {
            Value::Number(NO_LIMIT) => "-1".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Ratio(ratio) => ratio.to_string(),
            Value::Bool(on) => on.to_string(),
            Value::Text(text) => text.clone(),
        }
    }
}

impl Kind {
    /// Reads a value; on error, what it must be.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let number = |parsed: Option<u64>, min, max| match parsed {
            Some(number) if (min..=max).contains(&number) => Ok(Value::Number(number)),
            _ => Err(self.expectation()),
        };
        match self {
            Kind::Bytes { min, max } => number(parse_bytes(text), min, max),
            Kind::Millis { min, max } => number(parse_millis(text), min, max),
            Kind::BytesOrNone { .. } | Kind::MillisOrNone { .. } | Kind::CountOrNone { .. }
                if text == "-1" =>
            {
                Ok(Value::Number(NO_LIMIT))
            }
            Kind::CountOrNone { max } => number(text.parse().ok(), 1, max),
            Kind::BytesOrNone { max } => number(parse_bytes(text), 0, max),
            Kind::MillisOrNone { max } => number(parse_millis(text), 0, max),
            Kind::Count { min, max } => number(text.parse().ok(), min, max),
            Kind::Bool => text.parse().map(Value::Bool).map_err(|_| self.expectation()),
            Kind::Flush => match text.strip_prefix("interval:") {
                Some(time) if parse_millis(time).is_some_and(|ms| ms > 0) => {
                    Ok(Value::Text(text.to_owned()))
                }
                None if text == "ack" || text == "os" => Ok(Value::Text(text.to_owned())),
                _ => Err(self.expectation()),
            },
            Kind::Cleanup => match text {
                "delete" | "compact" | "compact,delete" | "delete,compact" => {
                    Ok(Value::Text(text.to_owned()))
                }
                _ => Err(self.expectation()),
            },
            Kind::TimestampType => match TimestampType::from_name(text) {
                Some(known) => Ok(Value::Text(known.name().to_owned())),
                None => Err(self.expectation()),
            },
            Kind::Ratio => match text.parse() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Value::Ratio(ratio)),
                _ => Err(self.expectation()),
            },
            Kind::Text => Ok(Value::Text(text.to_owned())),
        }
    }

    /// What a value must be, for messages and documentation.
    pub fn expectation(self) -> String {
        match self {
            Kind::Bytes { min, max } => {
                format!("a size from {} to {}, as in 64KiB", format_bytes(min), format_bytes(max))
            }
            Kind::Millis { min, max } => {
                format!("a time from {} to {}, as in 30s", format_millis(min), format_millis(max))
            }
            Kind::BytesOrNone { max } => {
                format!("a size up to {}, as in 64KiB, or -1 for no limit", format_bytes(max))
            }
            Kind::MillisOrNone { max } => {
                format!("a time up to {}, as in 30s, or -1 for no limit", format_millis(max))
            }
            Kind::CountOrNone { max } => format!("a number from 1 to {max}, or -1 for no limit"),
            Kind::Count { min, max } => format!("a number from {min} to {max}"),
            Kind::Bool => "true or false".to_owned(),
            Kind::Flush => "ack, os or interval:<time>, as in interval:50ms".to_owned(),
            Kind::Cleanup => "delete, compact or compact,delete".to_owned(),
            Kind::TimestampType => "CreateTime or LogAppendTime".to_owned(),
            Kind::Ratio => "a number from 0 to 1, as in 0.5".to_owned(),
            Kind::Text => "a text".to_owned(),
        }
    }
}

const BYTE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `4096`, `64KiB`, `1MB`.
pub fn parse_bytes(text: &str) -> Option<u64> {
    with_unit(text, &BYTE_UNITS)
}

/// Reads `250`, `250ms`, `30s`, `5m`, `12h`, `7d`.
pub fn parse_millis(text: &str) -> Option<u64> {
    with_unit(text, &TIME_UNITS)
}

/// Writes a size in the largest unit that divides it.
pub fn format_bytes(bytes: u64) -> String {
    largest_unit(bytes, &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)])
}

/// Writes a time in the largest unit that divides it.
pub fn format_millis(millis: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    largest_unit(millis, &units)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim();
    let factor = match unit {
        "" => 1,
        unit => units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.checked_mul(factor)
}

fn largest_unit(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |factor: u64| number >= factor && number.is_multiple_of(factor);
    match units.iter().find(|(_, factor)| fits(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_and_written() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64KiB", 65536), ("1 MB", 1_000_000)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for (text, millis) in [("5", 5), ("5ms", 5), ("2s", 2000), ("7d", 604_800_000)] {
            assert_eq!(parse_millis(text), Some(millis), "{text}");
        }
        for bad in ["", "x", "-1", "1.5s", "1 parsec", "99999999999999999999", "20000000000000GiB"]
        {
            assert_eq!((parse_bytes(bad), parse_millis(bad)), (None, None), "{bad}");
        }
        assert_eq!(format_bytes(1 << 30), "1GiB");
        assert_eq!(format_bytes(1_048_588), "1048588B");
        assert_eq!(format_millis(604_800_000), "7d");
    }

    #[test]
    fn programs_read_plain_numbers_and_what_they_write_is_read() {
        let (bytes, time) =
            (Kind::BytesOrNone { max: 1 << 40 }, Kind::MillisOrNone { max: 1 << 40 });
        let count = Kind::Count { min: 0, max: 9 };
        for (kind, written, plain) in [
            (bytes, "1GiB", "1073741824"),
            (time, "7d", "604800000"),
            (time, "-1", "-1"),
            (count, "7", "7"),
            (Kind::Ratio, "0.50", "0.5"),
            (Kind::Bool, "true", "true"),
            (Kind::Cleanup, "compact,delete", "compact,delete"),
        ] {
            let value = kind.parse(written).unwrap();
            assert_eq!(value.plain(), plain);
            assert_eq!(kind.parse(plain), Ok(value));
        }
    }

    #[test]
    fn values_are_held_to_their_kind() {
        let kind = Kind::Bytes { min: 10, max: 1 << 20 };
        assert_eq!(kind.parse("1KiB"), Ok(Value::Number(1024)));
        assert_eq!(kind.parse("9").unwrap_err(), "a size from 10B to 1MiB, as in 64KiB");
        assert!(Kind::Flush.parse("interval:50ms").is_ok());
        assert_eq!(Kind::Ratio.parse("0.25"), Ok(Value::Ratio(0.25)));
        for bad in ["-0.1", "1.5", "NaN", "half"] {
            assert!(Kind::Ratio.parse(bad).is_err(), "{bad}");
        }
        assert!(Kind::Cleanup.parse("compact,delete").is_ok());
        assert!(Kind::Cleanup.parse("compress").is_err());
        assert!(Kind::TimestampType.parse("LogAppendTime").is_ok());
        assert!(Kind::TimestampType.parse("logappendtime").is_err());
        for bad in ["interval:", "interval:0", "never"] {
            assert!(Kind::Flush.parse(bad).is_err(), "{bad}");
        }
    }
}
