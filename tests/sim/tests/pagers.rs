//! Pagers that lie, fail, keep silent, forget and die: who touches their memory gets
//! KERN_MEMORY_ERROR at worst, never other bytes, and everybody else goes on.

use sim::schedule::{Kind, Sim};

#[test]
fn faulty_pagers_harm_nobody_else() {
    for seed in 0..1000 {
        Sim::new(seed, Kind::FAULTY).run();
    }
}
