//! The memory of a machine, within reach while it runs: a test does from outside what no domain can.

use std::{
    fs::File,
    os::{fd::AsRawFd, unix::fs::FileExt},
    process,
};

use anyhow::{Context, Result};
use rustix::{
    fs::{MemfdFlags, SeekFrom, memfd_create, seek},
    io::Errno,
};

/// What is sought stands at a multiple of this many bytes and is no longer than this, so no page ends in it.
const ALIGNMENT: usize = 32;
/// Bytes of memory that are read at once.
const CHUNK: usize = 1 << 20;

pub struct Memory(File);

impl Memory {
    pub fn new() -> Result<Self> {
        Ok(Self(memfd_create("machine", MemfdFlags::CLOEXEC).context("no memory for the machine")?.into()))
    }

    /// What QEMU opens.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd())
    }

    /// Where these bytes stand now, in memory that has ever been written to: offsets for [`Self::write`].
    pub fn find(&self, bytes: &[u8]) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        let mut chunk = vec![0; CHUNK];
        let mut end = 0;
        loop {
            let mut at = match seek(&self.0, SeekFrom::Data(end)) {
                Ok(at) => at,
                // No more data.
                Err(Errno::NXIO) => return Ok(found),
                Err(error) => return Err(error.into()),
            };
            end = seek(&self.0, SeekFrom::Hole(at))?;
            while at < end {
                let length = CHUNK.min(usize::try_from(end - at)?);
                self.0.read_exact_at(&mut chunk[..length], at)?;
                let places = chunk[..length].chunks(ALIGNMENT).zip((at..).step_by(ALIGNMENT));
                found.extend(places.filter(|(place, _)| place.starts_with(bytes)).map(|(_, offset)| offset));
                at += length as u64;
            }
        }
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all_at(bytes, offset)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_can_be_changed() {
        let memory = Memory::new().unwrap();
        let mark = [0xc3; 16];
        assert_eq!(memory.find(&mark).unwrap(), [] as [u64; 0]);
        let places = [0, 0x40_0000 - 32, 0x40_0000 + 4096, 0x8000_0000 - 32];
        for place in places {
            memory.write(place, &mark).unwrap();
        }
        // Not aligned: nothing.
        memory.write(0x1008, &mark).unwrap();
        assert_eq!(memory.find(&mark).unwrap(), places);
        memory.write(0, &[0]).unwrap();
        assert_eq!(memory.find(&mark).unwrap(), places[1..]);
    }
}
