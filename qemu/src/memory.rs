//! The memory of a machine, within reach while it runs: a test does from outside what no domain can.

use std::{
    fs::File,
    ops::Range,
    os::{fd::AsRawFd, unix::fs::FileExt},
    process,
};

use anyhow::{Context, Result};
use memchr::memmem;
use rustix::{
    fs::{MemfdFlags, SeekFrom, memfd_create, seek},
    io::Errno,
};

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

    /// Where these bytes stand now, in memory that has ever been written to: offsets for [`Self::read`] and [`Self::write`].
    pub fn find(&self, bytes: &[u8]) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        let mut end = 0;
        loop {
            let at = match seek(&self.0, SeekFrom::Data(end)) {
                Ok(at) => at,
                // No more data.
                Err(Errno::NXIO) => return Ok(found),
                Err(error) => return Err(error.into()),
            };
            end = seek(&self.0, SeekFrom::Hole(at))?;
            found.extend(find_within(&self.0, at..end, bytes)?);
        }
    }

    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        Ok(self.0.read_exact_at(to, offset)?)
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all_at(bytes, offset)?)
    }
}

/// Where these bytes stand in this part of a file.
pub fn find_within(file: &File, part: Range<u64>, bytes: &[u8]) -> Result<Vec<u64>> {
    let finder = memmem::Finder::new(bytes);
    let mut found = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let Range { start: mut at, end } = part;
    while at < end {
        let length = CHUNK.min(usize::try_from(end - at)?);
        let chunk = &mut chunk[..length];
        file.read_exact_at(chunk, at)?;
        found.extend(finder.find_iter(chunk).map(|offset| at + offset as u64));
        // What begins in this chunk and ends in the next.
        let last = at + length as u64 == end;
        at += (if last { length } else { length + 1 - bytes.len() }) as u64;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_can_be_changed() {
        let memory = Memory::new().unwrap();
        let mark = [0xc3; 16];
        assert_eq!(memory.find(&mark).unwrap(), [] as [u64; 0]);
        let places = [0, 0x10_0000 - 8, 0x30_0000 - 32, 0x40_0000 - 32, 0x40_0000 + 4099, 0x8000_0000 - 32];
        for place in places {
            memory.write(place, &mark).unwrap();
        }
        // Data all the way from the first to the third.
        for page in (0..0x30_0000).step_by(4096) {
            memory.write(page + 64, &[1]).unwrap();
        }
        assert_eq!(memory.find(&mark).unwrap(), places);
        let mut there = [0; 17];
        memory.read(places[1], &mut there).unwrap();
        assert_eq!(there, [&mark[..], &[0]].concat()[..]);
        memory.write(0, &[0]).unwrap();
        assert_eq!(memory.find(&mark).unwrap(), places[1..]);
    }
}
