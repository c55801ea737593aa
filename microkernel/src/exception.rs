//! x
use crate::arch::context::Context;
pub(crate) fn exception(c: &mut Context) -> *mut Context { c }
