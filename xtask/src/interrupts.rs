//! Sends a machine non-maskable interrupts, every few milliseconds, while it runs.
//!
//! They go through the emulator's monitor: its command `nmi` interrupts every processor. They begin when the
//! guest has started, for until its tables are loaded a machine ends by the first of them.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Time between two interrupts.
const PERIOD: Duration = Duration::from_millis(3);

/// Fewest interrupts that a run of this length must have had for them to prove anything: a busy host may
/// not come to send all.
pub(crate) fn fewest(elapsed: Duration) -> u64 {
    1 + elapsed.as_secs() * 10
}

/// The socket of a monitor to which interrupts are sent.
pub(crate) struct Interrupts {
    path: PathBuf,
    begun: bool,
}

impl Interrupts {
    /// A socket for a machine that is to be started.
    pub(crate) fn new() -> Interrupts {
        let name = format!("pagoda-interrupts-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // One of a machine that is no more.
        let _ = fs::remove_file(&path);
        Interrupts { path, begun: false }
    }

    /// Sends, from now on and in the background, until the machine ends.
    pub(crate) fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            let path = self.path.clone();
            // The end of the connection is that of the machine.
            thread::spawn(move || send(&path));
        }
    }

    /// The socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn send(path: &Path) -> io::Result<()> {
    let mut monitor = UnixStream::connect(path)?;
    monitor.set_nonblocking(true)?;
    let mut answers = [0; 4096];
    loop {
        match monitor.read(&mut answers) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        match monitor.write(b"nmi\n") {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => thread::sleep(PERIOD),
        }
    }
}
