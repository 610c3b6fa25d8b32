//! The file behind a machine's flash: the whole bank, of which the board gives `store` a part.

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// Of a bank, in `qemu/BOARD.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flash {
    /// Bytes of the bank: QEMU takes no file of another size.
    size: u64,
    /// What stands at its beginning, because the machine begins with it.
    #[serde(default)]
    boot: Vec<u32>,
    /// Where the blocks begin that are the board's, and how many bytes they have.
    at: u64,
    length: u64,
}

/// The file's name in the machine's directory.
const NAME: &str = "flash";

impl Flash {
    /// The flash of the machine in this directory: the one that it has had, or a new one. Most of the file is a hole.
    pub(crate) fn of(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(NAME);
        self.make(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The blocks that are the board's.
    pub(crate) fn read(&self, dir: &Path) -> Result<Vec<u8>> {
        let path = dir.join(NAME);
        let mut bytes = vec![0; usize::try_from(self.length)?];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, self.at));
        read.with_context(|| path.display().to_string())?;
        Ok(bytes)
    }

    /// Puts other contents into them, while no machine has them.
    pub(crate) fn write(&self, dir: &Path, bytes: &[u8]) -> Result<()> {
        let path = dir.join(NAME);
        let there = usize::try_from(self.length)?;
        ensure!(bytes.len() == there, "the board has {there} bytes of flash, not {}", bytes.len());
        let written = File::options().write(true).open(&path).and_then(|file| file.write_all_at(bytes, self.at));
        written.with_context(|| path.display().to_string())
    }

    fn make(&self, path: &Path) -> Result<()> {
        match path.metadata() {
            Ok(there) => {
                ensure!(there.len() == self.size, "no flash of this board: {} bytes, not {}", there.len(), self.size);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        // It has its name when it is whole.
        let new = path.with_extension("new");
        let file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.set_len(self.size)?;
        let boot: Vec<u8> = self.boot.iter().flat_map(|instruction| instruction.to_le_bytes()).collect();
        file.write_all_at(&boot, 0)?;
        file.write_all_at(&vec![0xff; usize::try_from(self.length)?], self.at)?;
        file.sync_all()?;
        Ok(std::fs::rename(&new, path)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn a_new_flash_is_erased_where_the_board_has_it_and_one_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let flash = Flash { size: 1 << 20, boot: vec![0x0010_0293, 7], at: 0x8000, length: 0x1000 };
        let path = flash.of(dir.path()).unwrap();
        let made = fs::read(&path).unwrap();
        assert_eq!(made[..8], [0x93, 0x02, 0x10, 0, 7, 0, 0, 0]);
        assert!(made[0x8000..0x9000].iter().all(|byte| *byte == 0xff));
        assert!(made[8..0x8000].iter().chain(&made[0x9000..]).all(|byte| *byte == 0) && made.len() == 1 << 20);
        let there = fs::metadata(&path).unwrap();
        assert!(there.blocks() * 512 < 1 << 17, "sparse");
        assert_eq!(there.mode() & 0o777, 0o600);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"identity", 0x8000).unwrap();
        flash.of(dir.path()).unwrap();
        let blocks = flash.read(dir.path()).unwrap();
        assert_eq!((&blocks[..8], blocks.len()), (&b"identity"[..], 0x1000));
        // Another board's.
        let other = Flash { size: 2 << 20, ..flash };
        assert!(other.of(dir.path()).unwrap_err().root_cause().to_string().contains("no flash of this board"));
    }
}
