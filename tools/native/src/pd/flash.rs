//! NOR flash, of a file: what it does not do, the file does not show.

use node::store::{Flash, PAGE, Progress, WORD};

use super::Device;
use crate::flash::{ERASE_BLOCK, SIZE};

/// Every action is done when it is begun.
///
/// A program of one word is a barrier: everything before it is on the disk before it is written, and it before it is said to
/// be done. By such words the log confirms what it has written. An erase is one too.
pub struct Nor {
    file: Device,
    progress: Progress,
}

impl Nor {
    pub const fn new(file: Device) -> Self {
        Self { file, progress: Progress::Done }
    }

    fn program(&self, at: usize, bytes: &[u8]) -> bool {
        let whole = at.is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD) && !bytes.is_empty();
        if !whole || at >= SIZE || at % PAGE + bytes.len() > PAGE {
            return false;
        }
        let mut stands = [0; PAGE];
        let stands = &mut stands[..bytes.len()];
        let barrier = bytes.len() == WORD;
        if (barrier && !self.file.sync()) || !self.file.read_at(at, stands) {
            return false;
        }
        // A bit is only ever cleared.
        stands.iter_mut().zip(bytes).for_each(|(old, new)| *old &= new);
        self.file.write_at(at, stands) && (!barrier || self.file.sync())
    }

    fn erase(&self, block: usize) -> bool {
        const PIECE: usize = 4096;
        let Some(start) = block.checked_mul(ERASE_BLOCK).filter(|start| *start < SIZE) else { return false };
        let mut pieces = (start..start + ERASE_BLOCK).step_by(PIECE);
        self.file.sync() && pieces.all(|at| self.file.write_at(at, &[0xff; PIECE])) && self.file.sync()
    }
}

const fn outcome(done: bool) -> Progress {
    if done { Progress::Done } else { Progress::Failed }
}

impl Flash for Nor {
    fn block_size(&self) -> usize {
        ERASE_BLOCK
    }

    fn blocks(&self) -> usize {
        SIZE / ERASE_BLOCK
    }

    fn read(&mut self, at: usize, to: &mut [u8]) -> bool {
        self.file.read_at(at, to)
    }

    fn begin_program(&mut self, at: usize, bytes: &[u8]) {
        self.progress = outcome(self.program(at, bytes));
    }

    fn begin_erase(&mut self, block: usize) {
        self.progress = outcome(self.erase(block));
    }

    fn poll(&mut self) -> Progress {
        self.progress
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd;

    use sysdesc::DeviceKind;

    use super::*;
    use crate::{boot::BootDevice, flash, pd::device::State};

    fn new() -> Nor {
        let fd = Some(flash::anonymous().unwrap().into_raw_fd());
        let device = BootDevice { name: "flash".into(), kind: DeviceKind::Flash, fd, mac: [0; 6] };
        Nor::new(Device(State::leak(&device)))
    }

    fn programmed(nor: &mut Nor, at: usize, bytes: &[u8]) -> Progress {
        nor.begin_program(at, bytes);
        nor.poll()
    }

    #[test]
    fn programs_clear_bits_and_only_an_erase_sets_them() {
        let mut nor = new();
        let mut bytes = [0; 8];
        assert_eq!(programmed(&mut nor, ERASE_BLOCK, &[0x0f; 8]), Progress::Done);
        assert_eq!(programmed(&mut nor, ERASE_BLOCK, &[0xf1; 4]), Progress::Done);
        assert!(nor.read(ERASE_BLOCK, &mut bytes));
        assert_eq!(bytes, [1, 1, 1, 1, 15, 15, 15, 15]);
        assert_eq!(programmed(&mut nor, ERASE_BLOCK - 64, &[3; 64]), Progress::Done);
        nor.begin_erase(1);
        assert_eq!(nor.poll(), Progress::Done);
        assert!(nor.read(ERASE_BLOCK, &mut bytes));
        assert_eq!(bytes, [0xff; 8]);
        assert!(nor.read(ERASE_BLOCK - 8, &mut bytes));
        assert_eq!(bytes, [3; 8]);
    }

    #[test]
    fn what_a_chip_does_not_do_it_does_not_do() {
        let mut nor = new();
        let tried: [(usize, &[u8]); 5] = [(0, &[]), (0, &[0; 3]), (2, &[0; 4]), (60, &[0; 8]), (SIZE, &[0; 4])];
        for (at, bytes) in tried {
            assert_eq!(programmed(&mut nor, at, bytes), Progress::Failed, "{at} {}", bytes.len());
        }
        for block in [8, usize::MAX] {
            nor.begin_erase(block);
            assert_eq!(nor.poll(), Progress::Failed);
        }
        assert!(!nor.read(SIZE - 2, &mut [0; 4]));
    }
}
