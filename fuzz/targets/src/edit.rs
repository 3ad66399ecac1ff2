//! Damage, as disks, networks and liars do it.

use std::ops::Range;

use crate::input::Input;

/// Longest piece that an edit adds, clears or moves.
const MOST: usize = 700;

/// Numbers at which code breaks.
const BAD_NUMBERS: [u32; 8] = [0, 1, 60, 61, 100_001, i32::MAX as u32, i32::MIN as u32, u32::MAX];

/// Changes `bytes` once, as the input says; true if some of them are now in a second place, where
/// they may still look sound.
pub fn edit(input: &mut Input<'_>, bytes: &mut Vec<u8>) -> bool {
    let at = input.below(bytes.len() + 1);
    match input.below(7) {
        0 => {
            let mask = input.byte().max(1);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
        }
        1 => {
            let number = input.pick(BAD_NUMBERS);
            let number = input.pick([number.to_be_bytes(), number.to_le_bytes()]);
            bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
        }
        2 => {
            let length = input.below(MOST);
            bytes.iter_mut().skip(at).take(length).for_each(|byte| *byte = 0);
        }
        3 => bytes.truncate(at),
        4 => {
            let added = input.piece(MOST);
            bytes.splice(at..at, added.iter().copied());
        }
        5 => {
            let zeroes = input.below(MOST);
            bytes.resize(bytes.len() + zeroes, 0);
        }
        _ => {
            let from = some_range(input, bytes.len());
            let piece = bytes[from].to_vec();
            bytes.splice(at..at, piece);
            return true;
        }
    }
    false
}

/// Changes something in the first `length` bytes: headers are short beside what they head, and
/// most of what can be wrong is in them.
pub fn edit_head(input: &mut Input<'_>, bytes: &mut Vec<u8>, length: usize) {
    let mut head = bytes.drain(..length.min(bytes.len())).collect();
    edit(input, &mut head);
    bytes.splice(..0, head);
}

fn some_range(input: &mut Input<'_>, length: usize) -> Range<usize> {
    let start = input.below(length + 1);
    let end = (start + input.below(MOST)).min(length);
    start..end
}
