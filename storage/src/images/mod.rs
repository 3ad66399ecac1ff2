//! Crash images: what a power failure at any moment may leave, and that the log opens it.
//!
//! A workload runs on a disk that tells of its every operation. After each, the disk is crashed in
//! several ways: everything synced is there, of the rest any part ([`crate::disk::MemoryDisk`]).
//! Each image is opened, and must hold what was promised: all that was acknowledged, nothing that
//! was not written, in order and without a hole. Some images are crashed again while they are
//! opened, and some are appended to and crashed a third time.
//!
//! The proof of the proof: each [`Safeguard`], left out, loses something in some image.

mod promise;
mod workload;

use self::workload::{Failure, run};
use crate::safeguard::{self, Safeguard};

/// How many images a run looks at: `MK_CRASH_IMAGES`, or else these.
const IMAGES: usize = 12_000;

fn images_wanted() -> usize {
    let wanted = std::env::var("MK_CRASH_IMAGES").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(IMAGES)
}

#[test]
fn every_image_of_a_crash_opens_and_has_what_was_acknowledged() {
    let (mut images, mut operations, mut seed) = (0, 0, 0);
    while images < images_wanted() {
        let seen = run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        images += seen.images;
        operations += seen.operations;
        seed += 1;
    }
    println!("{images} images of {operations} disk operations in {seed} workloads: all hold");
}

#[test]
fn without_any_one_safeguard_some_image_fails() {
    const MOST_SEEDS: u64 = 3000;
    for left_out in safeguard::ALL {
        let failure = (0..MOST_SEEDS).find_map(|seed| fails_without(left_out, seed));
        let failure = failure.unwrap_or_else(|| panic!("nobody misses {left_out:?}"));
        println!("without {left_out:?}: {failure}");
    }
}

fn fails_without(left_out: Safeguard, seed: u64) -> Option<Failure> {
    safeguard::without(left_out, || run(seed).err())
}
