//! What a program says to whoever runs it, so that saying it never decides what the program does.
//!
//! A *message* ([`say()`], [`tell!`]), on standard error, is lost where nobody takes it: the reader of the pipe has gone or
//! does not read, the disk is full. So is a line of a *story* ([`show!`]), on standard output, but it waits for a reader that
//! is there. A *result* ([`result`]) is what the program was run for: that it cannot be written is an error, but a reader who
//! has gone has what he wanted. The macros of `std` panic on all of these, so clippy refuses them (`print_stdout`,
//! `print_stderr`). Whatever is said may have text of others in it, and is made [`plain`] first.
#![forbid(unsafe_code)]

pub mod plain;
mod voice;

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use self::voice::Voice;

/// How long a message waits for a reader that is behind, unless the last one did so in vain.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const NONE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Whether the last message found no room.
static IS_STUCK: AtomicBool = AtomicBool::new(false);
static VOICE: OnceLock<Voice> = OnceLock::new();

/// [`say()`] of a text that is put together as `format!` does it.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => { $crate::say(::std::format_args!($($text)*)) };
}

/// A line on standard output that tells what goes on, or nothing if nobody takes it.
#[macro_export]
macro_rules! show {
    ($($text:tt)*) => { $crate::line(::std::format_args!($($text)*)) };
}

/// A line on standard error, or nothing if nobody takes it.
pub fn say(line: impl Display) {
    match VOICE.get() {
        Some(voice) => voice.say(line.to_string()),
        None => say_now(line),
    }
}

/// Says a line before it returns: the last one of a process.
pub fn say_now(line: impl Display) {
    let patience = if IS_STUCK.load(Ordering::Relaxed) { NONE } else { PATIENCE };
    IS_STUCK.store(!send(io::stderr(), line, &patience), Ordering::Relaxed);
}

/// From now on whoever has a message waits for nothing: a thread writes it.
pub fn from_a_thread() -> io::Result<()> {
    let voice = Voice::start(io::stderr())?;
    // There is one already: that is as good.
    let _ = VOICE.set(voice);
    Ok(())
}

/// What [`show!`] says.
pub fn line(text: impl Display) {
    let _ = result(text);
}

/// False if there was no room in time.
fn send(mut to: impl Write + AsFd, line: impl Display, patience: &Timespec) -> bool {
    let room = match poll(&mut [PollFd::new(&to, PollFlags::OUT)], Some(patience)) {
        Ok(ready) => ready > 0,
        // Whether there is room is then the write's to find out.
        Err(Errno::INTR) => true,
        Err(_) => false,
    };
    if room {
        // One write, so that lines of several processes do not mix.
        let _ = to.write_all(plain_line(line).as_bytes()).and_then(|()| to.flush());
    }
    room
}

/// A result on standard output, as a line. It is no error that its reader has gone.
pub fn result(text: impl Display) -> io::Result<()> {
    unless_gone(only_copy(text))
}

/// A result that is nowhere else: that its reader has gone is an error too.
pub fn only_copy(text: impl Display) -> io::Result<()> {
    write(plain_line(text))
}

/// The same in place of all that the terminal shows.
pub fn screen(text: impl Display) -> io::Result<()> {
    // Home, and clear to the end.
    unless_gone(write(format!("\x1b[H\x1b[J{}", plain_line(text))))
}

fn plain_line(text: impl Display) -> String {
    let mut line = plain::text(&text.to_string());
    line.push('\n');
    line
}

fn write(line: String) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush())
}

fn unless_gone(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Whether somebody may still read standard output: not once the other end of a pipe is closed.
pub fn is_read() -> bool {
    is_open(&io::stdout())
}

fn is_open(to: &impl AsFd) -> bool {
    let mut watched = [PollFd::new(to, PollFlags::empty())];
    poll(&mut watched, Some(&NONE)).is_err() || !watched[0].revents().intersects(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        io::{PipeWriter, Read, pipe},
    };

    use super::*;

    fn full_disk() -> File {
        OpenOptions::new().write(true).open("/dev/full").unwrap()
    }

    fn closed_pipe() -> PipeWriter {
        pipe().unwrap().1
    }

    #[test]
    fn a_message_is_one_line() {
        let (mut reader, writer) = pipe().unwrap();
        assert!(send(writer, format_args!("{} of {}", 1, 2), &NONE));
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "1 of 2\n");
    }

    #[test]
    fn a_message_that_nobody_takes_is_lost_and_nothing_else() {
        send(full_disk(), format_args!("lost"), &NONE);
        send(closed_pipe(), format_args!("lost"), &NONE);
        let (mut reader, mut writer) = pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let filled = io::copy(&mut io::repeat(b'x'), &mut writer).unwrap_err();
        assert_eq!(filled.kind(), ErrorKind::WouldBlock);
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        // Nobody reads meanwhile.
        assert!(!send(&writer, format_args!("lost"), &NONE));
        reader.read_exact(&mut [0; 8192]).unwrap();
        assert!(send(&writer, format_args!("said"), &NONE));
        drop(writer);
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert!(read.ends_with("xsaid\n"), "{}", read.trim_start_matches('x'));
    }

    #[test]
    fn of_a_result_a_full_disk_is_an_error_and_a_reader_that_has_gone_is_none() {
        let write = |mut to: Box<dyn Write>| to.write_all(b"result");
        assert_eq!(unless_gone(write(Box::new(full_disk()))).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(write(Box::new(closed_pipe())).unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(unless_gone(write(Box::new(closed_pipe()))).is_ok());
    }

    #[test]
    fn that_a_reader_has_gone_is_seen_before_a_write() {
        let (reader, writer) = pipe().unwrap();
        assert!(is_open(&writer) && is_open(&full_disk()));
        drop(reader);
        assert!(!is_open(&writer));
    }
}
