//! What the domains of `make bench` share: a serial line that says figures. No product image has any of them.
//!
//! Under `-icount` the counter is virtual time, and virtual time is instructions as long as the processor is never
//! idle: the host multiplies ticks by what one is worth (`bench/src/machine.rs`).
#![no_std]

use core::fmt::{self, Write};

use console::Serial;
use drivers::uart::Uart;

pub struct Report(Uart);

impl Report {
    /// The device of the board's symbol.
    pub fn bind() -> Self {
        Self(Uart::bind())
    }

    pub fn line(&mut self, text: &str) {
        let _ = write!(self, "{text}\r\n");
    }

    /// One number, as the host reads it.
    pub fn figure(&mut self, key: &str, value: u64) {
        let _ = write!(self, "bench: {key} {value}\r\n");
    }

    /// Nothing more comes: the host may pull the plug.
    pub fn end(&mut self) {
        self.line("bench: end");
    }

    pub fn all(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = rest.get(self.0.write(rest)..).unwrap_or_default();
        }
    }
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.all(text.as_bytes());
        Ok(())
    }
}
