//! The record of a segment: a pcapng file with one interface per switch port.
//!
//! A packet stands under the interface of the port that the switch received it *on*, so the file tells each
//! frame's true sender, whatever addresses the frame itself claims. Every block is written whole, by one
//! write: a reader finds complete blocks at any time. What cannot be recorded is an error: it is never left
//! out silently.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            enhanced_packet::EnhancedPacketBlock,
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

/// Nanoseconds, as a negative power of ten.
const RESOLUTION: u8 = 9;

pub struct Recorder {
    file: File,
    /// Bytes of whole blocks in the file.
    length: u64,
    blocks: PcapNgWriter<Vec<u8>>,
    interfaces: HashMap<String, u32>,
}

impl Recorder {
    /// A new record; an old one at `path` is replaced.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let blocks = PcapNgWriter::new(Vec::new()).map_err(other)?;
        let mut recorder = Self { file, length: 0, blocks, interfaces: HashMap::new() };
        recorder.flush()?;
        Ok(recorder)
    }

    /// The interface of a port. A port that comes back under its name is the same interface.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        if let Some(id) = self.interfaces.get(name) {
            return Ok(*id);
        }
        let id = u32::try_from(self.interfaces.len()).map_err(io::Error::other)?;
        self.put(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(RESOLUTION),
            ],
        })?;
        self.interfaces.insert(name.to_owned(), id);
        Ok(id)
    }

    pub fn packet(&mut self, interface: u32, at: SystemTime, frame: &[u8]) -> io::Result<()> {
        self.put(EnhancedPacketBlock {
            interface_id: interface,
            timestamp: at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO),
            original_len: u32::try_from(frame.len()).map_err(io::Error::other)?,
            data: Cow::Borrowed(frame),
            options: Vec::new(),
        })
    }

    fn put<'a>(&mut self, block: impl PcapNgBlock<'a>) -> io::Result<()> {
        self.blocks.write_pcapng_block(block).map_err(other)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let block = self.blocks.get_mut();
        let written = self.file.write_all(block);
        let length = block.len() as u64;
        block.clear();
        if written.is_err() {
            // A full disk may have taken half a block.
            self.file.set_len(self.length)?;
        } else {
            self.length += length;
        }
        written
    }
}

fn other(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use pcap_parser::{Block, PcapBlockOwned, PcapError, PcapNGReader, traits::PcapReaderIterator};
    use proptest::prelude::*;

    use super::*;

    /// What another implementation reads: interface name and bytes of each packet.
    pub fn read_back(path: &Path) -> Vec<(String, Vec<u8>, u64)> {
        let mut reader = PcapNGReader::new(1 << 20, File::open(path).unwrap()).unwrap();
        let (mut names, mut packets) = (Vec::new(), Vec::new());
        loop {
            match reader.next() {
                Ok((offset, block)) => {
                    match block {
                        PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                            assert_eq!(block.if_tsresol, RESOLUTION);
                            names.push(block.if_name().unwrap().unwrap().to_owned());
                        }
                        PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                            let at = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                            let data = block.data[..block.caplen as usize].to_vec();
                            packets.push((names[block.if_id as usize].clone(), data, at));
                        }
                        _ => {}
                    }
                    reader.consume(offset);
                }
                Err(PcapError::Eof) => return packets,
                Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn another_reader_finds_every_packet_under_its_port(
            packets in prop::collection::vec((0usize..5, prop::collection::vec(any::<u8>(), 0..2000), any::<u32>()), 0..20),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("segment.pcapng");
            let mut recorder = Recorder::create(&path).unwrap();
            let mut expected = Vec::new();
            for (port, bytes, at) in packets {
                let name = format!("node-{port}");
                let interface = recorder.interface(&name).unwrap();
                let at = Duration::new(u64::from(at), at % 1_000_000_000);
                recorder.packet(interface, SystemTime::UNIX_EPOCH + at, &bytes).unwrap();
                expected.push((name, bytes, u64::try_from(at.as_nanos()).unwrap()));
                // Complete at any time, not only at the end.
                prop_assert_eq!(&read_back(&path), &expected);
            }
        }
    }

    #[test]
    fn a_failed_write_is_an_error() {
        let mut recorder = Recorder::create(Path::new("/dev/null")).unwrap();
        recorder.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(recorder.interface("a").is_err());
    }
}
