//! What must hold of any bytes that come from a disk or a network.
//!
//! Each target is a function of bytes that panics if something does not hold; libFuzzer and the
//! property tests below call the same ones. Random bytes never pass a checksum, so the bytes are
//! mostly taken for choices ([`input`]): valid encodings are made of them, and damaged in the way
//! that they say ([`edit`]), with checksums made right again or left wrong.
//!
//! * [`frame()`]: a stream of frames, however it is cut.
//! * [`message()`]: the fields of every request and response.
//! * [`batch()`]: a batch and the records in it, under each codec.
//! * [`index()`]: the index files of a sound log.
//! * [`recovery()`]: the scan of a segment, and a log whose files were damaged.
//!
//! What it does not do: it uses what the crates offer to everybody and looks into nothing, and it
//! opens no file of the system.

#![forbid(unsafe_code)]

mod batch;
mod edit;
mod frame;
mod index;
mod input;
mod log;
mod message;
mod recovery;

pub use batch::batch;
pub use frame::frame;
pub use index::index;
pub use message::message;
pub use recovery::recovery;

#[cfg(test)]
mod tests {
    use std::fmt;

    use proptest::prelude::*;

    /// Shown in one line, so that a case that fails can be told to somebody.
    #[derive(Clone)]
    struct Bytes(Vec<u8>);

    impl fmt::Debug for Bytes {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("hex ")?;
            self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        }
    }

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes)
    }

    /// `MK_FUZZ_CASES` in place of `cases`, if it is set.
    fn cases(cases: u32) -> ProptestConfig {
        let asked = std::env::var("MK_FUZZ_CASES").ok();
        let asked = asked.map(|text| text.parse().expect("MK_FUZZ_CASES is a number"));
        ProptestConfig::with_cases(asked.unwrap_or(cases))
    }

    proptest! {
        #![proptest_config(cases(10_000))]

        #[test]
        fn frames_are_the_same_however_the_stream_is_cut(bytes in bytes(400)) {
            super::frame(&bytes.0);
        }

        #[test]
        fn messages_that_are_read_are_written_alike_and_all_else_is_refused(bytes in bytes(300)) {
            super::message(&bytes.0);
        }
    }

    proptest! {
        #![proptest_config(cases(5000))]

        #[test]
        fn batches_give_back_their_records_and_damaged_ones_no_more_than_they_claim(
            bytes in bytes(600),
        ) {
            super::batch(&bytes.0);
        }

        #[test]
        fn a_log_serves_the_same_whatever_is_in_its_indexes(bytes in bytes(200)) {
            super::index(&bytes.0);
        }

        #[test]
        fn a_damaged_log_is_refused_or_serves_what_was_written(bytes in bytes(300)) {
            super::recovery(&bytes.0);
        }
    }
}
