//! Random, seeded, replayable schedules of the VM core, compared byte by byte with a flat model.

pub mod flat;
pub mod machine;
