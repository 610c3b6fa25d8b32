//! What comes from an authority on UDP 8090: commands, and the chunks of orders and records. Nothing here is believed: the
//! keystore checks a command, and what one names that is staged has its signatures checked there too. Nothing is answered;
//! telemetry shows the last command that was carried out.

use calls::keystore::CommandReply;
use heapless::Deque;
use wire::{
    command::Command,
    order::Kind,
    set::MAX_AUTHORITIES,
    staged::{CHUNK, ChunkHead, MAX_STAGED, Staged, parse, parse_chunk},
    telemetry::CommandResult,
};
use zerocopy::FromBytes;
use zeroize::Zeroize;

/// Commands that wait for the keystore.
const WAITING: usize = 4;

/// The last command that was carried out, as telemetry shows it.
#[derive(Clone, Copy)]
pub struct Done {
    pub counter: u32,
    pub operation: u8,
    pub result: CommandResult,
}

pub struct Commands {
    waiting: Deque<Command, WAITING>,
    /// The one that the keystore has been asked about.
    asked: Option<Command>,
    /// The last that it let through of each authority. Whose one that comes is, only the keystore can tell.
    accepted: [Option<Command>; MAX_AUTHORITIES],
    pub done: Done,
    pub staging: Staging,
    /// Commands and chunks that were not obeyed.
    pub dropped: u64,
}

impl Commands {
    pub const fn new() -> Self {
        let done = Done { counter: 0, operation: 0, result: CommandResult::None };
        let (asked, accepted) = (None, [None; MAX_AUTHORITIES]);
        Self { waiting: Deque::new(), asked, accepted, done, staging: Staging::new(), dropped: 0 }
    }

    pub fn forget(&mut self) {
        self.waiting.clear();
        (self.asked, self.accepted) = (None, [None; MAX_AUTHORITIES]);
        self.done = Done { counter: 0, operation: 0, result: CommandResult::None };
        self.staging.clear();
    }

    /// Takes the payload of a datagram of an authority.
    pub fn take(&mut self, payload: &[u8]) {
        let taken = match Command::read_from_bytes(payload) {
            Ok(command) => self.wait(command),
            Err(_) => parse_chunk(payload).is_some_and(|(head, part)| self.staging.take(head, part)),
        };
        if !taken {
            self.drop_one();
        }
    }

    pub fn drop_one(&mut self) {
        self.dropped = self.dropped.wrapping_add(1);
    }

    /// A repeated command costs the keystore nothing.
    fn wait(&mut self, command: Command) -> bool {
        let waits = self.waiting.iter().any(|waiting| *waiting == command);
        !waits && !self.is_accepted(&command) && self.waiting.push_back(command).is_ok()
    }

    fn is_accepted(&self, command: &Command) -> bool {
        self.accepted.iter().flatten().any(|accepted| accepted == command)
    }

    /// The next that is to be checked.
    pub fn next(&mut self) -> Option<Command> {
        while let Some(command) = self.waiting.pop_front() {
            if !self.is_accepted(&command) {
                self.asked = Some(command);
                return Some(command);
            }
            self.drop_one();
        }
        None
    }

    /// The keystore has let it through.
    pub fn accept(&mut self, command: &CommandReply) {
        let place = usize::try_from(command.authority).ok().and_then(|place| self.accepted.get_mut(place));
        if let Some(place) = place {
            *place = self.asked.take();
        }
    }

    pub fn finish(&mut self, command: &CommandReply, result: CommandResult) {
        let operation = u8::try_from(command.operation).unwrap_or(u8::MAX);
        self.done = Done { counter: command.counter, operation, result };
    }
}

/// The buffer for one order or record. A chunk of another one begins that one: nothing is ever put together from two.
pub struct Staging {
    short: u32,
    length: usize,
    /// One bit for each chunk that is there.
    chunks: u8,
    /// An `apply` is under way: nothing changes.
    locked: bool,
    bytes: [u8; MAX_STAGED],
}

impl Staging {
    const fn new() -> Self {
        const { assert!(MAX_STAGED.div_ceil(CHUNK) <= 8) };
        Self { short: 0, length: 0, chunks: 0, locked: false, bytes: [0; MAX_STAGED] }
    }

    pub fn clear(&mut self) {
        self.bytes.zeroize();
        (self.short, self.length, self.chunks, self.locked) = (0, 0, 0, false);
    }

    pub fn unlock(&mut self) {
        self.locked = false;
    }

    fn take(&mut self, head: &ChunkHead, part: &[u8]) -> bool {
        if self.locked {
            return false;
        }
        let (short, length) = (head.short.get(), usize::from(head.length.get()));
        if (short, length) != (self.short, self.length) {
            self.clear();
            (self.short, self.length) = (short, length);
        }
        let start = usize::from(head.number) * CHUNK;
        let Some(to) = self.bytes.get_mut(start..).and_then(|rest| rest.get_mut(..part.len())) else { return false };
        to.copy_from_slice(part);
        self.chunks |= 1_u8.checked_shl(head.number.into()).unwrap_or(0);
        true
    }

    /// What has this short hash, if all of it is there; from now on it stays as it is.
    pub fn lock(&mut self, short: u32) -> Option<&[u8]> {
        let all = u8::MAX >> 8_usize.checked_sub(self.length.div_ceil(CHUNK)).filter(|unused| *unused < 8)?;
        let bytes = self.bytes.get(..self.length)?;
        let whole =
            self.short == short && self.chunks == all && parse(bytes).is_some_and(|staged| staged.short() == short);
        self.locked = whole;
        whole.then_some(bytes)
    }

    /// Whether what is locked is something that the node gives a receipt for.
    pub fn proves(&self) -> bool {
        match self.locked().and_then(parse) {
            Some(Staged::Order(order, _)) => order.kind() == Some(Kind::Release),
            Some(Staged::Record(_)) => true,
            None => false,
        }
    }

    /// What is locked, if anything is.
    pub fn locked(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length).filter(|_| self.locked)
    }
}

#[cfg(test)]
mod tests {
    use crypto::Secret;
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn what_one_authority_has_used_up_is_not_anothers() {
        let make = |key, counter| Command::new(&Secret::new([key; 32]), &[1; 32], 1, 0, counter);
        let mut commands = Commands::new();
        for (authority, counter) in [(0, u32::MAX), (1, 5), (0, 3), (1, 6)] {
            let command = make(authority as u8, counter);
            commands.take(command.as_bytes());
            assert_eq!(commands.next(), Some(command), "{authority}, {counter}");
            commands.accept(&CommandReply { operation: 1, argument: 0, counter, authority });
            // The same again goes no further.
            commands.take(command.as_bytes());
            assert_eq!(commands.next(), None);
        }
        assert_eq!(commands.dropped, 4);
    }
}
