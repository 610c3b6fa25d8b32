//! The command lines of a transcript again, in another directory: keys and nodes are others, so what must be the same is
//! how each command ends.

use anyhow::{Context, Result, ensure};

use super::{
    act::Act,
    stage::Stage,
    transcript::{Command, Event, Story},
};

pub fn replay(stage: &mut Stage, story: &Story) -> Result<()> {
    let mut ran = 0;
    for entry in &story.entries {
        match &entry.event {
            Event::File { path, text, .. } => stage.file(path, text.as_deref())?,
            Event::Command(command) if counts(story, entry.sequence, command) => {
                stage
                    .run(Act::anew(command))
                    .with_context(|| format!("command {} of the transcript", entry.sequence))?;
                ran += 1;
            }
            Event::Step(step) => {
                say::show!("== {}", step.name());
                stage.begin(*step)?;
            }
            Event::Done { .. } => stage.end(&Ok(vec!["as the transcript says".to_owned()]))?,
            _ => {}
        }
    }
    ensure!(ran > 0, "there is no command in the transcript");
    say::show!("== {ran} commands have ended as the transcript says");
    Ok(())
}

/// Whether it ended, and as it was to. What was cut, or went wrong, was run again later.
fn counts(story: &Story, sequence: u64, command: &Command) -> bool {
    story.commands().any(|(at, _, end)| {
        at == sequence && matches!(end, Some(Event::Ended { code, .. }) if command.wanted.contains(code))
    })
}
