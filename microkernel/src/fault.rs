//! x
use crate::arch::context::Context;
pub(crate) fn page_fault(c: &mut Context, _a: u64) -> *mut Context { c }
