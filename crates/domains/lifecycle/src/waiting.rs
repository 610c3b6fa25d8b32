//! A call of another domain that is answered when the keystore's status confirms it.

/// The one call of a domain that waits, if one does.
pub struct Waiting<W> {
    call: Option<(W, Step)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The keystore has to do something first.
    Undone,
    /// A status is to be asked for.
    Due,
    /// A status is asked for: the next one is younger than the call, and than what the keystore did for it.
    Asked,
}

impl<W> Waiting<W> {
    pub const fn nothing() -> Self {
        Self { call: None }
    }

    pub fn is_some(&self) -> bool {
        self.call.is_some()
    }

    /// The call needs a status only.
    pub fn confirm(&mut self, what: W) {
        self.call = Some((what, Step::Due));
    }

    /// The keystore has to act on the call first; [`Self::done`] says that it has.
    pub fn act(&mut self, what: W) {
        self.call = Some((what, Step::Undone));
    }

    /// What the keystore has to act on.
    pub fn undone(&self) -> Option<&W> {
        self.call.as_ref().filter(|(_, step)| *step == Step::Undone).map(|(what, _)| what)
    }

    pub fn undone_mut(&mut self) -> Option<&mut W> {
        self.call.as_mut().filter(|(_, step)| *step == Step::Undone).map(|(what, _)| what)
    }

    pub fn done(&mut self) {
        self.advance(Step::Undone, Step::Due);
    }

    /// Whether the call needs a status that is yet to be asked for.
    pub fn is_due(&self) -> bool {
        self.call.as_ref().is_some_and(|(_, step)| *step == Step::Due)
    }

    /// A status is asked for.
    pub fn asked(&mut self) {
        self.advance(Step::Due, Step::Asked);
    }

    /// A status has come: what waited for it, unless it is older than the call.
    pub fn shown(&mut self) -> Option<W> {
        self.call.take_if(|(_, step)| *step == Step::Asked).map(|(what, _)| what)
    }

    pub fn take(&mut self) -> Option<W> {
        self.call.take().map(|(what, _)| what)
    }

    fn advance(&mut self, from: Step, to: Step) {
        if let Some((_, step)) = &mut self.call
            && *step == from
        {
            *step = to;
        }
    }
}
