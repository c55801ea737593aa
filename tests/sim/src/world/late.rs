//! Answers to faults that are late: with several processors an answer is carried out when its thread gets
//! to it, which may be after what later events did.

use vm_core::effect::Effect;
use vm_core::event::MapId;

use super::{Care, Waits, World};

impl World {
    /// Carries out the late answers that no more than so many events come before.
    pub(super) fn carry_out_late(&mut self, passed: u64) {
        let mut place = 0;
        while let Some((left, _)) = self.late.get_mut(place) {
            if *left > passed {
                *left -= passed;
                place += 1;
                continue;
            }
            let (_, late) = self.late.remove(place);
            let mut maps = Vec::new();
            for effect in late {
                maps.extend(self.shown_by(&effect));
                self.carry_out(effect);
            }
            if self.care != Care::Never {
                maps.into_iter()
                    .for_each(|map| self.check_translations(map));
            }
        }
    }

    /// The map in which an effect enters something.
    fn shown_by(&self, effect: &Effect) -> Option<MapId> {
        match effect {
            Effect::Enter(enter) => Some(enter.map),
            Effect::Resume { to: Some(to), .. } => match self.waits.get(&to.0.get()) {
                Some(Waits::Fault(map)) => Some(*map),
                _ => None,
            },
            _ => None,
        }
    }

    /// Carries out what is late.
    pub fn catch_up(&mut self) {
        self.carry_out_late(u64::MAX);
    }
}
