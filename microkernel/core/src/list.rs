//! Index-linked lists, used by every queue.
