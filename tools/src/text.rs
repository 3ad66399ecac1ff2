//! Numbers and times as people read them.

use mk_storage::Timestamp;

/// Bytes in the largest binary unit that leaves a number of at least one.
pub fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut name = "B";
    for unit in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        name = unit;
    }
    if name == "B" { format!("{bytes} B") } else { format!("{value:.1} {name}") }
}

/// A share of a whole in percent.
pub fn share_text(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// A span of milliseconds.
pub fn span_text(millis: i64) -> String {
    match millis {
        ..1000 => format!("{millis} ms"),
        1000..120_000 => format!("{:.1} s", millis as f64 / 1e3),
        120_000..7_200_000 => format!("{:.1} min", millis as f64 / 6e4),
        7_200_000..172_800_000 => format!("{:.1} h", millis as f64 / 3.6e6),
        _ => format!("{:.1} d", millis as f64 / 8.64e7),
    }
}

/// A time in milliseconds since 1970, as people read it, in UTC; a batch without a record has none.
pub fn time_text(millis: i64) -> String {
    if millis == Timestamp::NONE.0 {
        return "none".to_owned();
    }
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| millis.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let sizes = [0, 1023, 1024, 1536, 1 << 30, u64::MAX].map(bytes_text);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 GiB", "16.0 EiB"]);
        assert_eq!(share_text(1, 3), "33.3 %");
        assert_eq!(share_text(0, 0), "-");
        assert_eq!([5, 90_000, 7_200_000].map(span_text), ["5 ms", "90.0 s", "2.0 h"]);
        assert_eq!(time_text(-1), "none");
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(i64::MAX), i64::MAX.to_string());
    }
}
