//! A Linux host on the segment: a shell in a network namespace of its own, behind `lab enter`. What runs in it is real: the
//! kernel's IPv6, `wireguard-go`, `ping`. It needs no root; files under /run are the host's own.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use native::runner::program_dir;

use crate::{PATIENCE, bed::Bed};

pub struct Host {
    shell: Child,
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
    count: u32,
}

/// What a command has said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub code: i32,
    pub text: String,
}

impl Host {
    pub fn new(bed: &Bed, name: &str) -> Self {
        let mut command = Command::new(program_dir().join("lab"));
        command.args(["enter", "--switch"]).arg(bed.segment());
        command.args(["--name", name, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"]);
        let mut host = Self::behind(&mut command);
        // The sockets of WireGuard's control go by the interface's name.
        host.ok("mount -t tmpfs tmpfs /run && mkdir -p /run/wireguard");
        host
    }

    /// A host whose shell is at the other end of this program's input and output.
    pub fn behind(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut shell = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}; `make build` makes what is ours"));
        let (say, lines) = channel();
        let output = BufReader::new(shell.stdout.take().expect("its output"));
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let commands = shell.stdin.take();
        Self { shell, commands, lines, count: 0 }
    }

    /// Waits until a line is said before any command was given.
    pub fn hear(&self, word: &str) {
        let deadline = Instant::now() + PATIENCE;
        let next = || self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        while next().unwrap_or_else(|_| panic!("the host does not say {word}")) != word {}
    }

    /// Runs a command of the shell to its end.
    pub fn run(&mut self, command: &str) -> Said {
        self.run_within(command, PATIENCE)
    }

    pub fn run_within(&mut self, command: &str, patience: Duration) -> Said {
        self.count += 1;
        let end = format!("--- end of {} ", self.count);
        let commands = self.commands.as_mut().expect("the shell's input");
        writeln!(commands, "{{ {command}\n}} </dev/null 2>&1; code=$?; echo; echo \"{end}$code\"")
            .expect("the shell listens");
        let deadline = Instant::now() + patience;
        let mut text = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("{command}: no end of it\n{text}"));
            if let Some(code) = line.strip_prefix(&end) {
                return Said { code: code.parse().expect("an exit code"), text: text.trim_end().to_owned() };
            }
            text += &line;
            text.push('\n');
        }
    }

    /// Whether anything comes back for a `ping`. That it could not ask, or is not there, is no silence.
    pub fn hears(&mut self, ping: &str) -> bool {
        let said = self.run(ping);
        let silence = said.code == 1 && said.text.contains("100% packet loss");
        assert!(said.code == 0 || silence, "{ping}\n{}", said.text);
        said.code == 0
    }

    /// Runs a command that must succeed, and returns what it said.
    pub fn ok(&mut self, command: &str) -> String {
        let said = self.run(command);
        assert_eq!(said.code, 0, "{command}\n{}", said.text);
        said.text
    }

    /// Runs a command until it succeeds. For what another process does in its own time.
    pub fn until(&mut self, command: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.run(command);
            if said.code == 0 {
                return said.text;
            }
            assert!(Instant::now() < deadline, "{command}: it does not succeed\n{}", said.text);
            thread::yield_now();
        }
    }

    /// Its link-local address on the segment.
    pub fn link_local(&mut self) -> std::net::Ipv6Addr {
        let text = self.ok("ip -6 -o address show dev lab0 scope link");
        let address = text.split_whitespace().skip_while(|word| *word != "inet6").nth(1).expect("an address");
        address.split('/').next().and_then(|address| address.parse().ok()).expect("an IPv6 address")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The end of its input ends the shell; what it left behind ends with the namespace.
        self.commands = None;
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
