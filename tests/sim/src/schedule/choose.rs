//! Which operation comes next: mostly one that can do something.

use super::{BASE, Sim, THREADS, Touch};
use crate::Random;
use crate::action::{Action, Operation};
use crate::calls::{Call, Choice};
use crate::flat::PAGE;

impl Sim {
    /// Gives a task memory to begin with.
    pub(super) fn furnish(&mut self, client: usize) {
        let third = self.kind.pages / 3;
        let mut add = |call| {
            self.named += 1;
            let name = self.named;
            self.furnishing
                .push_back(Action::Call { client, name, call });
        };
        add(Call::allocate_at(BASE, third));
        if !self.pagers.pagers.is_empty() {
            let start = BASE + third + 1;
            add(Call::map_at(start, third, (0, client as u64)));
        }
    }

    /// What happens next.
    pub fn choose(&mut self, random: &mut Random) -> Operation {
        let luck = random.word() as u32;
        if let Some(action) = self.furnishing.pop_front() {
            return Operation(luck, action);
        }
        Operation(luck, self.choose_action(random))
    }

    fn choose_action(&mut self, random: &mut Random) -> Action {
        if self.kind.paging && !random.once_in(4) {
            return self.choose_pager(random);
        }
        if self.kind.rings && random.once_in(3) {
            return Action::Ring;
        }
        match random.below(100) {
            0..40 => self.choose_touch(random),
            40..58 => self.choose_call(random),
            58..78 => self.choose_pager(random),
            78..92 => Action::Step,
            92..94 => Action::Wait {
                nanoseconds: if self.kind.faulty { 30_000 } else { 10 },
            },
            94 => match random.below(4) {
                0 if self.kind.pressure => Action::Squeeze {
                    left: random.below(6) as u32,
                },
                0 | 1 => Action::Take {
                    frames: 1 + random.below(4) as u32,
                },
                _ => Action::Return,
            },
            95 => Action::Abort {
                thread: self.any_thread(random),
            },
            96..98 => self.choose_drop(random),
            98 => {
                let client = random.below(self.clients.len() as u64) as usize;
                match random.once_in(3) {
                    true => Action::Suspend { client },
                    false => Action::End { client },
                }
            }
            _ if self.kind.faulty => self.choose_failure(random),
            _ => Action::Step,
        }
    }

    fn any_thread(&self, random: &mut Random) -> usize {
        let tasks = self
            .living
            .iter()
            .filter(|name| !self.clients[**name].library);
        let threads = tasks.flat_map(|name| name * THREADS..(name + 1) * THREADS);
        random.pick(&threads.collect::<Vec<_>>()).unwrap_or(0)
    }

    fn choose_touch(&self, random: &mut Random) -> Action {
        let thread = self.any_thread(random);
        let Some(record) = self.threads.get(thread) else {
            return Action::Step;
        };
        match record.touch {
            Touch::Nothing => {
                let write = random.once_in(2).then(|| 1 + random.below(255) as u8);
                let page = self.page_to_touch(random, record.client, write);
                let address = page * PAGE as u64 + random.below(PAGE as u64);
                Action::Touch {
                    thread,
                    address,
                    write,
                }
            }
            Touch::Wants(..) => Action::Retry { thread },
            Touch::Waits(..) => Action::Step,
        }
    }

    fn choose_call(&mut self, random: &mut Random) -> Action {
        // A sealed map has little to do but refuse.
        let sealed = random.once_in(8);
        let alive: Vec<usize> = self
            .living
            .iter()
            .copied()
            .filter(|client| sealed || !self.clients[*client].sealed)
            .collect();
        let Some(client) = random.pick(&alive) else {
            return Action::Step;
        };
        let call = Choice { sim: self, random }.call(client);
        if let Call::Fork(_, child) | Call::MakeMap(child) = call {
            self.last_client = child;
        }
        self.named += 1;
        Action::Call {
            client,
            name: self.named,
            call,
        }
    }

    /// The name that a new task gets.
    pub(crate) const fn next_client(&self) -> usize {
        self.last_client + 1
    }

    fn choose_pager(&self, random: &mut Random) -> Action {
        match self.pagers.pagers.len() as u64 {
            0 => Action::Step,
            count => Action::Pager {
                pager: random.below(count) as usize,
            },
        }
    }

    fn choose_drop(&self, random: &mut Random) -> Action {
        let late = random.once_in(4);
        let copies: Vec<u64> = self.copies.iter().map(|held| held.number).collect();
        let entries: Vec<u64> = self.entries.iter().map(|entry| entry.number).collect();
        let libraries: Vec<u64> = self.libraries.iter().map(|known| known.number).collect();
        let from = match random.below(5) {
            0..2 => copies,
            2..4 => entries,
            _ => libraries,
        };
        match random.pick(&from) {
            Some(name) => Action::Drop { name, late },
            None => Action::Step,
        }
    }

    fn choose_failure(&self, random: &mut Random) -> Action {
        let (pagers, files) = (self.pagers.pagers.len(), self.pagers.files.len());
        if pagers == 0 {
            return Action::Step;
        }
        if random.once_in(3) {
            Action::Kill {
                pager: random.below(pagers as u64) as usize,
            }
        } else {
            Action::Forget {
                file: random.below(files as u64) as usize,
            }
        }
    }
}
