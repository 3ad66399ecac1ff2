//! Places in a log, and times, as people write them.

use jiff::{Timestamp, Zoned, civil};
use mk::client::StartAt;

/// start, end, N, -N, @TIME.
pub fn start(text: &str) -> Result<StartAt, String> {
    let number = |digits: &str| digits.parse::<u64>().map_err(|error| error.to_string());
    match text {
        "start" | "beginning" | "earliest" => Ok(StartAt::Earliest),
        "end" | "latest" => Ok(StartAt::Latest),
        _ => match (text.strip_prefix('@'), text.strip_prefix('-')) {
            (Some(at), _) => time(at).map(StartAt::Timestamp),
            (None, Some(count)) => number(count).map(StartAt::Last),
            (None, None) => number(text)
                .map(StartAt::Offset)
                .map_err(|_| "start, end, an offset, -N for the last N, @TIME or @-1h".to_owned()),
        },
    }
}

/// A time, in milliseconds since 1970: such a number, RFC 3339, a date or a date and time of this
/// place, or -1h for an hour ago.
pub fn time(text: &str) -> Result<i64, String> {
    if let Some(ago) = text.strip_prefix('-') {
        let ago = mk::settings::parse_millis(ago);
        let ago = ago.ok_or("a time ago is written -500ms, -30s, -5m, -1h or -7d")?;
        return Ok(Timestamp::now().as_millisecond().saturating_sub_unsigned(ago));
    }
    if let Ok(millis) = text.parse::<i64>() {
        return Ok(millis);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    let here = Zoned::now().time_zone().clone();
    let local = text.parse::<civil::DateTime>().map_err(|_| {
        "a time is written 2026-01-31T12:00:00Z, 2026-01-31, in milliseconds since 1970, or -1h"
    })?;
    let zoned = local.to_zoned(here).map_err(|error| error.to_string())?;
    Ok(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(start("start"), Ok(StartAt::Earliest));
        assert_eq!(start("end"), Ok(StartAt::Latest));
        assert_eq!(start("17"), Ok(StartAt::Offset(17)));
        assert_eq!(start("-3"), Ok(StartAt::Last(3)));
        assert_eq!(start("@5"), Ok(StartAt::Timestamp(5)));
        assert_eq!(start("@1970-01-01T00:00:01Z"), Ok(StartAt::Timestamp(1000)));
        let Ok(StartAt::Timestamp(hour_ago)) = start("@-1h") else { panic!("no time") };
        let now = Timestamp::now().as_millisecond();
        assert!((3_600_000..3_660_000).contains(&(now - hour_ago)));
        assert!(start("@2026-01-31").is_ok() && start("@2026-01-31T12:00:00").is_ok());
        for wrong in ["", "begin", "-", "--5", "@", "@yesterday", "1.5"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
