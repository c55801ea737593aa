//! Lines on the serial port: the kernel's log, and what tasks write.

use core::fmt::{self, Write as _};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::arch::serial;

/// The serial port as a formatter's target.
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial::write(text.as_bytes());
        Ok(())
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = name(record.level());
            // The console never fails.
            let _ = writeln!(Console, "kernel {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// A level as it is printed.
const fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Makes the serial port the log's target. Until [`set_level`] only warnings are printed.
pub(crate) fn init() {
    serial::init();
    // A second logger cannot exist: this is called once.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Warn);
}

/// Sets the level from the command line's `log=` word.
pub(crate) fn set_level(word: Option<&str>) {
    match word.map(str::parse) {
        None => {}
        Some(Ok(level)) => log::set_max_level(level),
        Some(Err(_)) => {
            log::warn!("log level unknown; there are off, error, warn, info, debug and trace");
        }
    }
}

/// Writes bytes of a task to the console.
pub(crate) fn write(bytes: &[u8]) {
    serial::write(bytes);
}

/// Prints a line whatever the level is.
macro_rules! say {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        // The console never fails.
        let _ = writeln!($crate::console::Console, $($arg)*);
    }};
}
pub(crate) use say;
