//! What keeps a secret to the process that holds it: no debugger of the same user, no core file, and where the kernel lets
//! memory be locked, no swap. It does not keep it from root, nor from a picture of the machine's memory.

use std::{io, ops::Deref};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on no other process of this user can look into this one or trace it, and it leaves no core file.
pub fn close_process() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

/// A secret at one place that does not move, locked into memory if the kernel allows it. It wipes itself.
pub struct Locked<T> {
    secret: Box<T>,
    is_locked: bool,
}

impl<T> Locked<T> {
    pub fn new(secret: T) -> Self {
        let secret = Box::new(secret);
        // SAFETY: the range is that of a value that is there; locking its pages changes none of their bytes.
        // They stay locked after it has gone: another secret may lie on the same page.
        let locked = unsafe { rustix::mm::mlock(std::ptr::from_ref(&*secret).cast_mut().cast(), size_of::<T>()) };
        Self { secret, is_locked: locked.is_ok() }
    }

    /// False where the limit of locked memory (`ulimit -l`) is too low: it may be written to swap.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.secret
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_closed_process_is_neither_traced_nor_dumped() {
        close_process().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    }

    #[test]
    fn a_secret_is_locked_where_the_limit_leaves_room() {
        let secret = Locked::new([7; 32]);
        assert_eq!(*secret, [7; 32]);
        let page = 4096;
        assert!(secret.is_locked() || getrlimit(Resource::Memlock).current.is_some_and(|room| room < page));
    }
}
