//! The IPC buffer: one page for each thread, through which everything larger than registers goes.
//!
//! ```text
//!    0   BODY     4000 bytes   message body, batch of translations, console text
//! 4000   VALUES   8 x u64      rights: the name, or on arrival perhaps the payload
//! 4064   KINDS    8 x u8       rights: disposition when sent, kind when received
//! 4072   (24 bytes unused)
//! ```
//!
//! The kernel reads each control word once and copies it before it checks it.

/// Largest body of a message, in bytes.
pub const BODY_SIZE: usize = 4000;
/// Most rights that one message carries.
pub const RIGHTS_MAX: usize = 8;

/// Offset of the body.
pub const BODY: usize = 0;
/// Offset of the right values.
pub const VALUES: usize = 4000;
/// Offset of the right kinds.
pub const KINDS: usize = 4064;

const _: () = assert!(BODY + BODY_SIZE == VALUES);
const _: () = assert!(VALUES + 8 * RIGHTS_MAX == KINDS);
const _: () = assert!(KINDS + RIGHTS_MAX <= 4096);
