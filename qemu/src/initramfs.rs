//! A file system that a Linux kernel unpacks into memory: a cpio archive in the format "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

use std::{collections::BTreeSet, path::Path};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    /// What is there.
    paths: BTreeSet<String>,
}

impl Initramfs {
    /// A file that may be run, with the directories above it. The path begins at the root and has no slash in front. What is
    /// there already stays.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, &[]);
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.entry(path, LINK, to.as_bytes());
    }

    pub fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let parent = Path::new(path).parent().and_then(Path::to_str).unwrap_or_default();
        if !parent.is_empty() {
            self.directory(parent);
        }
        if self.paths.insert(path.to_owned()) {
            self.write(path, mode, content);
        }
    }

    fn write(&mut self, path: &str, mode: u32, content: &[u8]) {
        // Numbers of inodes are looked at only where there are several links to one.
        let links = 1;
        let (length, name) = (content.len(), path.len() + 1);
        let head = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{length:08x}{:08x}{:08x}{:08x}{:08x}{name:08x}{:08x}",
            0, 0, 0, 0, 0, 0, 0, 0, 0
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_directories_before_it_and_all_is_aligned() {
        let mut archive = Initramfs::default();
        archive.file("a/b/c", b"12345");
        archive.file("a/b/d", b"");
        archive.file("a/b/c", b"again");
        assert!(archive.has("a/b") && !archive.has("b"));
        let bytes = archive.finish();
        let (mut at, mut found) = (0, Vec::new());
        while let Some(head) = bytes.get(at..at + 110) {
            let field = |number: usize| {
                let digits = str::from_utf8(&head[6 + 8 * number..14 + 8 * number]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            assert_eq!((&head[..6], at % 4), (&b"070701"[..], 0));
            let (mode, length, name) = (field(1), field(6), field(11));
            let path = str::from_utf8(&bytes[at + 110..at + 110 + name - 1]).unwrap();
            at = (at + 110 + name).next_multiple_of(4);
            found.push((path, mode, &bytes[at..at + length]));
            at = (at + length).next_multiple_of(4);
        }
        assert_eq!(at, bytes.len());
        let (directory, file) = (0o040_755, 0o100_755);
        let expected: [(&str, usize, &[u8]); 5] = [
            ("a", directory, b""),
            ("a/b", directory, b""),
            ("a/b/c", file, b"12345"),
            ("a/b/d", file, b""),
            ("TRAILER!!!", 0, b""),
        ];
        assert_eq!(found, expected);
    }
}
