//! What a half-written command line says already.

use crate::outcome::Failure;
use crate::profile::addresses;

/// The words of the line that a shell asks about.
pub fn words() -> Vec<String> {
    words_of(std::env::args())
}

fn words_of(arguments: impl Iterator<Item = String>) -> Vec<String> {
    arguments.skip_while(|word| word != "--").collect()
}

/// The brokers that it names, or else the environment or the file of profiles.
pub fn brokers(words: &[String]) -> Result<String, Failure> {
    let given = value_of(words, "--bootstrap-server").or_else(|| value_of(words, "-b"));
    addresses(given, value_of(words, "--profile"))
}

/// What a flag is given on a line that need not be whole.
fn value_of<'a>(words: &'a [String], flag: &str) -> Option<&'a str> {
    let after = |word: &'a String| {
        let rest = word.strip_prefix(flag)?;
        // The value of a short flag may follow at once.
        let is_long = flag.starts_with("--");
        let value =
            rest.strip_prefix('=').or(Some(rest).filter(|rest| !is_long || rest.is_empty()));
        value.filter(|value| !value.is_empty() || rest.is_empty())
    };
    let (at, value) = words.iter().enumerate().find_map(|(at, word)| Some((at, after(word)?)))?;
    if value.is_empty() { words.get(at + 1).map(String::as_str) } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_found_on_a_half_written_line() {
        let of = |line: &str| brokers(&words_of(line.split(' ').map(str::to_owned))).unwrap();
        for line in [
            "mkctl -- mkctl -b h:1 cat ",
            "mkctl -- mkctl -bh:1 cat ",
            "mkctl -- mkctl cat --bootstrap-server h:1 gr",
            "mkctl -- mkctl cat --bootstrap-server=h:1 gr",
            "mkctl -- mkctl cat --profile other -b h:1 gr",
        ] {
            assert_eq!(of(line), "h:1", "{line}");
        }
        let words = ["--", "mkctl", "--profile=there", "cat"].map(str::to_owned);
        assert_eq!(value_of(&words, "--profile"), Some("there"));
        assert_eq!(value_of(&words, "-b"), None);
    }
}
