//! kernel-core against naive models.
