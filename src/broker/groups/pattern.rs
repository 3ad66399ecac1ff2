//! Topics that members want by a pattern which the brokers look up (KIP-848, `SubscriptionPattern`).

use std::collections::{BTreeMap, BTreeSet};

use regex::bytes::{Regex, RegexBuilder};

use super::group::Topics;

/// Longest pattern, in bytes.
const MOST_PATTERN: usize = 1000;
/// Most bytes of a pattern as it is run: it is run on the names of all topics.
const MOST_COMPILED: usize = 64 << 10;

/// Patterns, and what they are as they are run.
#[derive(Debug, Default)]
pub struct Patterns(BTreeMap<String, Regex>);

/// A pattern of whole names, as it is run. Kafka's brokers have RE2/J for it, which knows the same syntax but for details.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MOST_PATTERN {
        return Err(format!("a pattern of {} bytes; {MOST_PATTERN} are allowed", pattern.len()));
    }
    // By itself first: with what is put around it here another pattern may come of it.
    let build = |text: &str| {
        // The names of topics are ASCII.
        RegexBuilder::new(text).unicode(false).size_limit(MOST_COMPILED).build()
    };
    let compiled = build(pattern).and_then(|_| build(&format!("^(?:{pattern})$")));
    compiled.map_err(|error| format!("the pattern '{}': {error}", pattern.escape_debug()))
}

impl Patterns {
    /// The topics that there are of each of these patterns, by name; others are not looked for any more.
    pub fn find<'a>(
        &mut self,
        wanted: impl Iterator<Item = &'a String>,
        topics: Topics<'_>,
    ) -> BTreeMap<String, BTreeSet<String>> {
        let wanted: BTreeSet<&String> = wanted.collect();
        self.0.retain(|pattern, _| wanted.contains(pattern));
        let mut found = BTreeMap::new();
        for pattern in wanted {
            if !self.0.contains_key(pattern) {
                // It was looked at when it came.
                let Ok(compiled) = compile(pattern) else { continue };
                self.0.insert(pattern.clone(), compiled);
            }
            found.insert(pattern.clone(), topics.matching(&self.0[pattern]));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_of_whole_names() {
        let is_match =
            |pattern: &str, name: &str| compile(pattern).unwrap().is_match(name.as_bytes());
        assert!(is_match("orders", "orders") && !is_match("orders", "orders-eu"));
        assert!(is_match("orders-.*|visits", "orders-eu") && !is_match("a|b", "ab"));
        assert!(is_match("(?i)ORDERS", "orders"));
    }

    #[test]
    fn what_is_no_pattern_or_too_large_a_one_is_refused() {
        let long = "x".repeat(MOST_PATTERN + 1);
        for pattern in ["(", "a)(b", "a)|(b", "(?:.{1000}){1000}", long.as_str()] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }
}
