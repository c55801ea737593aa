//! The arguments of a task: how a loader lays them out, and how the task reads them.
//!
//! ```text
//! SP = RDI ->   0  u64  number of arguments
//!               8  u64  bytes of argument 0, then the bytes, padded with zeros to 8
//!                  ...  and so on for each
//! ```
//!
//! The block lies at the top of the first thread's stack, at a multiple of 16, and the stack
//! grows down from it. Argument 0 is the name of the task. Arguments are UTF-8.

/// Bytes of a block with these arguments, a multiple of 16.
#[must_use]
pub fn size<'a>(arguments: impl Iterator<Item = &'a str>) -> usize {
    arguments
        .fold(8, |size: usize, argument| {
            size + 8 + argument.len().next_multiple_of(8)
        })
        .next_multiple_of(16)
}

/// Writes the block of these arguments at the start of `block`; `None` if it does not fit.
#[must_use]
pub fn write<'a>(
    arguments: impl Iterator<Item = &'a str> + Clone,
    block: &mut [u8],
) -> Option<usize> {
    let size = size(arguments.clone());
    let block = block.get_mut(..size)?;
    block.fill(0);
    let count = arguments.clone().count() as u64;
    block.get_mut(..8)?.copy_from_slice(&count.to_le_bytes());
    let mut at = 8;
    for argument in arguments {
        let length = argument.len();
        block
            .get_mut(at..at + 8)?
            .copy_from_slice(&(length as u64).to_le_bytes());
        block
            .get_mut(at + 8..at + 8 + length)?
            .copy_from_slice(argument.as_bytes());
        at += 8 + length.next_multiple_of(8);
    }
    Some(size)
}

/// The arguments of this task. Iterating gives them in order, the task's name first.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    count: usize,
    rest: *const u64,
}

impl Args {
    /// No arguments.
    pub(crate) const NONE: Args = Args {
        count: 0,
        rest: core::ptr::null(),
    };

    /// Reads the block at `address`.
    ///
    /// # Safety
    /// A block as the module's text says must lie there, and stay unchanged as long as the task
    /// lives.
    #[must_use]
    pub unsafe fn at(address: u64) -> Args {
        let block = address as *const u64;
        // SAFETY: the caller's duty.
        unsafe {
            Args {
                count: block.read() as usize,
                rest: block.add(1),
            }
        }
    }

    /// The name of the task.
    #[must_use]
    pub fn name(mut self) -> &'static str {
        self.next().unwrap_or("task")
    }
}

impl Iterator for Args {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        self.count = self.count.checked_sub(1)?;
        // SAFETY: `at` was promised a block that has `count` more arguments from here on, and
        // that it stays.
        let bytes = unsafe {
            let length = self.rest.read() as usize;
            let bytes = core::slice::from_raw_parts(self.rest.add(1).cast::<u8>(), length);
            self.rest = self.rest.add(1 + length.div_ceil(8));
            bytes
        };
        Some(core::str::from_utf8(bytes).unwrap_or("(not UTF-8)"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(arguments: &[&'static str]) {
        let mut block = [0xEE_u64; 32];
        // SAFETY: the bytes of an array of words.
        let bytes = unsafe { core::slice::from_raw_parts_mut(block.as_mut_ptr().cast(), 256) };
        let length = write(arguments.iter().copied(), bytes).unwrap();
        assert_eq!((length, length % 16), (size(arguments.iter().copied()), 0));
        // SAFETY: the block was just written and lives on.
        let read = unsafe { Args::at(block.as_ptr() as u64) };
        assert_eq!(read.size_hint().0, arguments.len());
        assert!(read.eq(arguments.iter().copied()), "{arguments:?}");
    }

    #[test]
    fn arguments_come_out_as_they_went_in() {
        round_trip(&[]);
        round_trip(&["demo"]);
        round_trip(&["", "12345678", "with space", "größe", "", "a"]);
    }

    #[test]
    fn arguments_that_do_not_fit_are_not_written() {
        let mut block = [1; 31];
        assert_eq!(write(["task", "x"].into_iter(), &mut block), None);
        assert_eq!(block, [1; 31]);
    }

    #[test]
    fn a_task_without_arguments_has_a_name_for_reports() {
        assert_eq!(Args::NONE.name(), "task");
    }
}
