//! Random seeded schedules of the VM core against a flat byte model.
