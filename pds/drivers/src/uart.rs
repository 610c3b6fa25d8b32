//! Serial output. The firmware has set the speed; nothing is read, no interrupt is used: the console is the last domain to
//! run, so it may wait for the device. What the domain before a restart may have set otherwise is set again, but for the
//! speed.

use console::Serial;

use crate::register::Register;

pub enum Uart {
    Pl011 { base: usize },
    Ns16550 { base: usize },
}

/// ARM PrimeCell UART (PL011), TRM section 3.3.
mod pl011 {
    pub const DATA: usize = 0x00;
    pub const FLAGS: usize = 0x18;
    pub const LINE_CONTROL: usize = 0x2c;
    pub const CONTROL: usize = 0x30;
    pub const INTERRUPT_MASK: usize = 0x38;
    pub const DMA_CONTROL: usize = 0x48;
    pub const EIGHT_BITS: u32 = 3 << 5;
    pub const FIFOS: u32 = 1 << 4;
    pub const TRANSMIT_FULL: u32 = 1 << 5;
    pub const ENABLE: u32 = 1 << 0;
    pub const TRANSMIT_ENABLE: u32 = 1 << 8;
}

/// 16550, registers a byte apart.
mod ns16550 {
    pub const DATA: usize = 0;
    pub const INTERRUPT_ENABLE: usize = 1;
    pub const LINE_CONTROL: usize = 3;
    pub const MODEM_CONTROL: usize = 4;
    pub const LINE_STATUS: usize = 5;
    /// And the registers are those above, not the divisor of the speed.
    pub const EIGHT_BITS: u8 = 3;
    pub const READY: u8 = 3;
    pub const HOLDING_EMPTY: u8 = 1 << 5;
}

impl Uart {
    /// The device whose symbol the board has set.
    pub fn bind() -> Self {
        let (pl011, ns16550) = (platform::setvar!("pl011"), platform::setvar!("ns16550"));
        match (pl011, ns16550) {
            (0, 0) => panic!("the board gives no serial device"),
            (0, base) => {
                let write = |register: usize, value| Register((base + register) as *mut u8).write(value);
                write(ns16550::LINE_CONTROL, ns16550::EIGHT_BITS);
                write(ns16550::INTERRUPT_ENABLE, 0);
                write(ns16550::MODEM_CONTROL, ns16550::READY);
                Self::Ns16550 { base }
            }
            (base, _) => {
                let write = |register: usize, value| Register((base + register) as *mut u32).write(value);
                write(pl011::CONTROL, 0);
                write(pl011::INTERRUPT_MASK, 0);
                write(pl011::DMA_CONTROL, 0);
                write(pl011::LINE_CONTROL, pl011::EIGHT_BITS | pl011::FIFOS);
                write(pl011::CONTROL, pl011::ENABLE | pl011::TRANSMIT_ENABLE);
                Self::Pl011 { base }
            }
        }
    }

    fn full(&self) -> bool {
        match self {
            Self::Pl011 { base } => Register((base + pl011::FLAGS) as *mut u32).read() & pl011::TRANSMIT_FULL != 0,
            Self::Ns16550 { base } => {
                Register((base + ns16550::LINE_STATUS) as *mut u8).read() & ns16550::HOLDING_EMPTY == 0
            }
        }
    }

    fn put(&mut self, byte: u8) {
        match self {
            Self::Pl011 { base } => Register((*base + pl011::DATA) as *mut u32).write(u32::from(byte)),
            Self::Ns16550 { base } => Register((*base + ns16550::DATA) as *mut u8).write(byte),
        }
    }
}

impl Serial for Uart {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        for byte in bytes {
            if self.full() {
                break;
            }
            self.put(*byte);
            written += 1;
        }
        written
    }
}
