//! What a rehearsal has done, for a person to read.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};

use super::{
    stage::OUTPUT,
    step::Step,
    transcript::{Event, Hash, Story},
};

/// What a step took, over all processes that worked at it.
#[derive(Default)]
struct Took {
    ms: u64,
    commands: usize,
}

pub fn show(story: &Story) -> Result<()> {
    text(story).lines().try_for_each(|line| say::result(line).map_err(Into::into))
}

pub fn text(story: &Story) -> String {
    let Some(began) = story.began() else { return "nothing has been done\n".to_owned() };
    let mut text = format!(
        "Rehearsal with {} nodes ({})\n\ntool         {}\n             {}\n",
        began.nodes, began.board, began.tool, began.tool_hash
    );
    if let Some(head) = began.replays {
        text += &format!("replays      {head}\n");
    }
    let (took, resumed) = times(story);
    let mut total = 0;
    for step in Step::ALL {
        let Some(Took { ms, commands }) = took.get(&step) else {
            text += &format!("{:<12} not begun\n", step.name());
            continue;
        };
        total += ms;
        let last = story.entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Done { step: of, says } if *of == step => Some(Ok(says)),
            Event::Failed { step: of, why } if *of == step => Some(Err(why)),
            _ => None,
        });
        let state = match last {
            Some(Ok(_)) => "done",
            Some(Err(_)) => "failed",
            None => "begun",
        };
        let seconds = *ms as f64 / 1000.0;
        text += &format!("{:<12} {state:<6} {commands:>4} commands {seconds:>7.1} s\n", step.name());
        match last {
            Some(Ok(says)) => says.iter().for_each(|line| text += &format!("             {line}\n")),
            Some(Err(why)) => text += &format!("             {}\n", why.lines().next().unwrap_or_default()),
            None => {}
        }
    }
    let seconds = total as f64 / 1000.0;
    text += &format!("all          {:>11} commands {seconds:>7.1} s\n", story.commands().count());
    if resumed > 0 {
        text += &format!("resumed      {resumed} times\n");
    }
    text += &format!("transcript   {} entries, head {}\n", story.entries.len(), story.head());
    text
}

/// Of each step, and how often another process went on. Time between a process's last entry and the next one's first is
/// nobody's.
fn times(story: &Story) -> (BTreeMap<Step, Took>, usize) {
    let (mut took, mut resumed) = (BTreeMap::<Step, Took>::new(), 0);
    let (mut at, mut last) = (None, 0);
    for entry in &story.entries {
        if let Event::Resumed { .. } = entry.event {
            resumed += 1;
            at = None;
        }
        if let Some(step) = at {
            took.entry(step).or_default().ms += entry.time_ms.saturating_sub(last);
        }
        match (&entry.event, at) {
            (Event::Step(step), _) => {
                took.entry(*step).or_default();
                at = Some(*step);
            }
            (Event::Done { .. } | Event::Failed { .. }, _) => at = None,
            (Event::Command(_), Some(step)) => took.entry(step).or_default().commands += 1,
            _ => {}
        }
        last = entry.time_ms;
    }
    (took, resumed)
}

/// How many outputs are beside a transcript. Each must be what the transcript says.
pub fn outputs(story: &Story, folder: &Path) -> Result<usize> {
    let mut there = 0;
    for entry in &story.entries {
        let Event::Ended { of, stdout, stderr, .. } = &entry.event else { continue };
        for (kind, hash) in [("stdout", stdout), ("stderr", stderr)] {
            let path = folder.join(OUTPUT).join(format!("{of}.{kind}"));
            match fs::read(&path) {
                Ok(bytes) => {
                    ensure!(Hash::of(&bytes) == *hash, "{} is not what command {of} said", path.display());
                    there += 1;
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
    }
    Ok(there)
}
