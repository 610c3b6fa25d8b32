//! The mailbox to the keystore: what is asked, one question at a time, and what came of it. A question that
//! may be repeated is asked twice; a command is not, its authority repeats it.

use calls::keystore::{
    CommandReply,
    for_mesh::{CheckCommand, FinishMeshHandshake, MeshKey, MeshRandom, Prove, ReadMeshHandshake, StartMeshHandshake},
};
use crypto::Secret;
use shm::{
    Micros,
    mailbox::{CallError, Client, Patience},
};
use wire::{Key, command::Command, receipt::Receipt};
use wireguard::{StaticReply, StaticRequest};

/// The keystore has so many microseconds to answer.
const PATIENCE: Patience = Patience { each: 2_000_000, tries: 2 };

pub enum Question {
    Key,
    Random,
    Static(StaticRequest),
    Command(Command),
    Receipt,
}

impl Question {
    fn ask(&self, now: Micros, keystore: &mut Client<'_>) {
        match self {
            Self::Key => keystore.call::<MeshKey>(&(), now, PATIENCE),
            Self::Random => keystore.call::<MeshRandom>(&(), now, PATIENCE),
            Self::Static(StaticRequest::Start(request)) => keystore.call::<StartMeshHandshake>(request, now, PATIENCE),
            Self::Static(StaticRequest::Finish(request)) => {
                keystore.call::<FinishMeshHandshake>(request, now, PATIENCE)
            }
            Self::Static(StaticRequest::Read(request)) => keystore.call::<ReadMeshHandshake>(request, now, PATIENCE),
            Self::Command(command) => keystore.call::<CheckCommand>(command, now, PATIENCE),
            Self::Receipt => keystore.call::<Prove>(&(), now, PATIENCE),
        }
    }

    fn answer(&self, now: Micros, keystore: &mut Client<'_>) -> Option<Result<Answer, CallError>> {
        Some(match self {
            Self::Key => keystore.poll::<MeshKey>(now)?.map(Answer::Key),
            Self::Random => keystore.poll::<MeshRandom>(now)?.map(|bytes| Answer::Random(Secret::new(bytes))),
            Self::Static(StaticRequest::Start(_)) => {
                keystore.poll::<StartMeshHandshake>(now)?.map(|reply| Answer::Static(StaticReply::Start(reply)))
            }
            Self::Static(StaticRequest::Finish(_)) => {
                keystore.poll::<FinishMeshHandshake>(now)?.map(|reply| Answer::Static(StaticReply::Finish(reply)))
            }
            Self::Static(StaticRequest::Read(_)) => {
                keystore.poll::<ReadMeshHandshake>(now)?.map(|reply| Answer::Static(StaticReply::Read(reply)))
            }
            Self::Command(_) => keystore.poll::<CheckCommand>(now)?.map(Answer::Command),
            Self::Receipt => keystore.poll::<Prove>(now)?.map(Answer::Receipt),
        })
    }
}

pub enum Answer {
    /// W's public half.
    Key(Key),
    Random(Secret),
    Static(StaticReply),
    Command(CommandReply),
    Receipt(Receipt),
    /// Refused, or no answer came.
    Failed(Question),
}

pub struct Keys {
    asked: Option<Question>,
    /// The last question was a step of a handshake: a command that waits comes before the next.
    pub owes_command: bool,
}

impl Keys {
    pub const fn new() -> Self {
        Self { asked: None, owes_command: false }
    }

    pub fn is_busy(&self) -> bool {
        self.asked.is_some()
    }

    pub fn ask(&mut self, now: Micros, keystore: &mut Client<'_>, question: Question) {
        question.ask(now, keystore);
        self.owes_command = matches!(question, Question::Static(_));
        self.asked = Some(question);
    }

    /// The outcome of the question, once.
    pub fn poll(&mut self, now: Micros, keystore: &mut Client<'_>) -> Option<Answer> {
        let question = self.asked.take()?;
        match question.answer(now, keystore) {
            None => self.asked = Some(question),
            Some(Ok(answer)) => return Some(answer),
            Some(Err(_)) => return Some(Answer::Failed(question)),
        }
        None
    }

    pub fn forget(&mut self, keystore: &mut Client<'_>) {
        *self = Self::new();
        keystore.abandon();
    }
}
