#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mk_fuzz_targets::recovery(bytes));
