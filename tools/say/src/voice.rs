//! A thread that writes messages, for a program in which nothing may wait for a disk or a pipe.

use std::{
    io::{self, Write},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

/// Lines that wait to be written. What comes when there are as many is lost.
const WAITING: usize = 64;

/// The thread that writes lines, as it is spoken to.
pub struct Voice(SyncSender<String>);

impl Voice {
    pub fn start(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let (voice, lines) = sync_channel::<String>(WAITING);
        let write = move || {
            let mut last = String::new();
            for mut line in lines {
                // What fails every second is said once.
                if line == last {
                    continue;
                }
                last.clone_from(&line);
                line.push('\n');
                // There may be room for the next one.
                let _ = to.write_all(line.as_bytes());
            }
        };
        thread::Builder::new().name("say".into()).spawn(write)?;
        Ok(Self(voice))
    }

    pub fn say(&self, line: String) {
        let _ = self.0.try_send(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A full disk, on which room is made after the first write.
    struct Disk(bool, Sender<String>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, false) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_lost_and_the_next_one_is_not() {
        let (written, lines) = channel();
        let voice = Voice::start(Disk(true, written)).unwrap();
        for line in ["full", "again", "again", "other"] {
            voice.say(line.into());
        }
        assert_eq!((lines.recv().unwrap(), lines.recv().unwrap()), ("again\n".into(), "other\n".into()));
    }

    #[test]
    fn nobody_waits_for_a_pipe_that_nobody_reads() {
        let (reader, writer) = io::pipe().unwrap();
        let voice = Voice::start(writer).unwrap();
        // Far more than a pipe holds.
        for number in 0..1000 {
            voice.say(format!("{number:4096}"));
        }
        drop(reader);
        voice.say("nobody hears it".into());
    }
}
